"""Pages beside dbt's documentation: the marts with how they join, and where each column comes from.

Made from what dbt knows (manifest and catalog), nothing by hand. Each is one file that loads nothing. See
docs/engine/decisions/0024-diagram-and-lineage-are-ours.md.
"""

from granary.pages.docs.write import NAMES, write_pages

__all__ = ["NAMES", "write_pages"]
