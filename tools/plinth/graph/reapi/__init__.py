"""The messages of the Remote Execution API v2, generated from the published protocol files."""
