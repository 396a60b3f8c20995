"""The sample retailer: source systems played back from The Complete Journey. Only the demo needs it."""
