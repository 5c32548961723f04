"""The program: `python -m plinth`, and the script `plinth`."""


def main() -> int:
    """Run the command that the command line names; the exit code is as
    `plinth.commands.main.main` has it, and 130 also for ^C while that is loaded."""
    try:
        # Nothing before: to load it takes longer than many a command, and ^C may come meanwhile.
        from plinth.commands.main import main as run

        return run()
    except KeyboardInterrupt as error:
        from plinth.core.ending import shown

        return shown(error)


if __name__ == "__main__":
    raise SystemExit(main())
