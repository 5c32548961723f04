"""The scoring server with one JSON object for each line of its log, print() of scripts included.

A logging.json of the application, which the server reads, comes on top.
"""

import json
import sys
import time

from azureml_inference_server_http import amlserver, log_config, print_log_hook

BEGUN = set(vars(log_config.logging.makeLogRecord({}))) | {"message", "asctime"}


def line(self, record):
    found = {
        "time": "{}.{:03.0f}Z".format(
            time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)), record.msecs // 1
        ),
        "level": record.levelname,
        "logger": record.name,
        "pid": record.process,
        "message": record.getMessage(),
    }
    if record.exc_info:
        found["exception"] = self.formatException(record.exc_info)
    # What a caller gave as `extra`.
    for name, value in vars(record).items():
        if name not in BEGUN:
            found.setdefault(name, str(value))
    return json.dumps(found)


if __name__ == "__main__":
    # The folder of this file is not a place for modules.
    del sys.path[0]
    log_config.AMLLogFormatter.format = line
    log_config.load_logging_config(amlserver.PACKAGE_ROOT, silent=True)
    print_log_hook.set_print_logger_redirect()
    amlserver.run()
