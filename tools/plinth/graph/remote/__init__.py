"""Remote caches and executors that speak the Remote Execution API v2."""
