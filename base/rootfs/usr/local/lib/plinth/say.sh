# say LEVEL TEXT: one line for the log of the container, as AZUREML_LOG_FORMAT wants it.
say() {
    if [ "${AZUREML_LOG_FORMAT:-}" = json ]; then
        printf '{"time": "%s", "level": "%s", "logger": "plinth", "message": "%s"}\n' \
            "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$1" \
            "$(printf %s "$2" | tr -d '\000-\037' | sed 's/[\\"]/\\&/g')"
    else
        printf '%s\n' "$2"
    fi
}
