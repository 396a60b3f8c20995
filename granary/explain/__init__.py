"""From a row of a mart back to the files and lines that it was made from (docs/engine/explain.md)."""
