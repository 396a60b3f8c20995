"""The one error type that people read."""


class GranaryError(Exception):
    """A failure that a person can act on: what happened, where, and what to do about it.

    Every module raises this for conditions outside the program (files, servers, settings, data); anything else
    that escapes is a defect and keeps its traceback.
    """

    def __init__(self, what: str, where: str = "", todo: str = "") -> None:
        """Keep the three parts; each is a clause without a final full stop."""
        self.what, self.where, self.todo = what, where, todo
        place = f" ({where})" if where else ""
        advice = f"; {todo}" if todo else ""
        super().__init__(f"{what}{place}{advice}")
