"""What a monitoring system reads of a warehouse: metrics, rules for alerts, a dashboard."""
