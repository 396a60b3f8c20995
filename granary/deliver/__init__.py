"""Out again: published marts, and queries over them, to files, APIs, webhooks, Kafka and other databases.

A project declares a delivery as it does a source: a module in `deliveries/` with a `DELIVERY`. docs/engine/deliver.md.
"""
