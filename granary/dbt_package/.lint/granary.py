"""What sqlfluff puts in the place of the package granary: its own macros, with sqlfluff's stand-ins for dbt's words."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import CodeType, SimpleNamespace

from jinja2 import Environment, Template, pass_context
from jinja2.runtime import Context

FOLDER = Path(__file__).parents[1] / "macros"


@lru_cache(maxsize=1)
def _compiled(environment: type[Environment], extensions: tuple[str, ...]) -> CodeType:
    text = "\n".join(path.read_text() for path in sorted(FOLDER.rglob("*.sql")))
    return environment(extensions=extensions).compile(text)


def __getattr__(name: str) -> Callable[..., object]:
    """Return a macro, which sees what the template that calls it sees."""
    if name.startswith("__"):
        raise AttributeError(name)

    @pass_context
    def macro(context: Context, *arguments: object, **named: object) -> object:
        environment, seen = context.environment, dict(context.get_all())
        code = _compiled(type(environment), tuple(type(one).identifier for one in environment.extensions.values()))
        seen.setdefault("adapter", SimpleNamespace(dispatch=lambda called, _: dispatched(called)))
        module = Template.from_code(environment, code, {}).make_module(seen)

        def dispatched(called: str) -> object:
            own = f"default__{called}"
            return seen.get(own) or getattr(module, own)

        return environment.call(context, getattr(module, name), *arguments, **named)

    return macro
