"""What suites share: makers of inputs, stand-ins of servers, one fake for each thing."""
