case ${AZUREML_LOG_FORMAT:-} in [Jj][Ss][Oo][Nn]) AZUREML_LOG_FORMAT=json ;; esac

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

# fail CODE TEXT: end a service; the line about its end has the text, where one is written.
fail() {
    [ -n "${PLINTH_SUPERVISOR:-}" ] && printf %s "$2" 2>/dev/null >"$PLINTH_STATE/reason.${PWD##*/}" ||
        say ERROR "plinth: $2"
    exit "$1"
}

# whole NAME DEFAULT LEAST: `value` becomes that of a variable, a whole number.
whole() {
    eval "value=\${$1-}"
    value=${value:-$2}
    case $value in
        0?* | *[!0-9]* | ??????????*) fail 111 "$1 is '$value': give a whole number, such as $2" ;;
    esac
    [ "$value" -ge "$3" ] || fail 111 "$1 is $value: give $3 or more"
}
