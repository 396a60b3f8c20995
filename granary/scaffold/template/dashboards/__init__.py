"""The pages, in the order of the navigation; the first is the one that opens."""

from granary.pages.dashboard import operation
from granary.pages.dashboard.overview import overview

PAGES = (overview, operation.PAGE)
