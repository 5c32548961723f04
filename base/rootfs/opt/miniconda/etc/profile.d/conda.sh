# To be sourced: `conda` as a function that can change the shell it runs in.
conda() {
    case "${1:-}" in
        activate | deactivate)
            __plinth_conda="$(/opt/miniconda/bin/conda shell.posix "$@")" || return
            eval "$__plinth_conda"
            unset __plinth_conda
            hash -r
            ;;
        *) /opt/miniconda/bin/conda "$@" ;;
    esac
}
