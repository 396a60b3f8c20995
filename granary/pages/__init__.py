"""Pages for people: the documentation, the profiles and the parts of dashboards."""
