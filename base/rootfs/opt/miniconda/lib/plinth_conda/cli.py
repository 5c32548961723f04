"""The command line: conda's verbs, as far as pip can do them."""

import argparse
import json
import os
import sys

from plinth_conda import environment, prefixes, shell
from plinth_conda.about import VERSION
from plinth_conda.errors import CondaError

ABOUT = (
    "This is plinth's command, not conda: it installs with pip, from the index of pip's settings, "
    "what environment files ask for, and refuses the rest by name (exit code 98)."
)


def main(arguments):
    """Run the command; its exit code."""
    if arguments[:1] == ["run"]:
        # What is run has options of its own.
        arguments, command = _split(arguments)
    else:
        command = []
    parser = _parser()
    options = parser.parse_args(arguments)
    options.command = command
    if {"-h", "--help"}.intersection(getattr(options, "rest", ())):
        parser.print_help()
        return 0
    try:
        return options.do(options) or 0
    except CondaError as error:
        print("conda (plinth's): %s" % error, file=sys.stderr)
        for line in error.details:
            print("  %s" % line, file=sys.stderr)
        return error.code
    except OSError as error:
        print("conda (plinth's): %s" % error, file=sys.stderr)
        return 1


def _say(options, *lines):
    if not options.quiet:
        for line in lines:
            print("conda (plinth's): %s" % line, flush=True)


def _python():
    return sys.version_info[:3]


def _install(options, prefix, wanted, folder=".", upgrade=False):
    _say(options, *wanted.notes)
    prefixes.install(prefix, wanted, folder, upgrade)


def _made(options, prefix, wanted, folder="."):
    """Make an environment with what is wanted; one that cannot be filled is removed."""
    prefixes.create(prefix)
    try:
        _install(options, prefix, wanted, folder)
    except CondaError:
        prefixes.remove(prefix)
        raise
    _say(options, "made %s" % prefix)


def env_create(options):
    wanted = environment.of_file(options.file, _python())
    prefix = _named(options, wanted)
    if options.force and prefixes.exists(prefix):
        prefixes.remove(prefix)
    _made(options, prefix, wanted, os.path.dirname(options.file))


def env_update(options):
    wanted = environment.of_file(options.file, _python())
    folder = os.path.dirname(options.file)
    active = not (options.name or options.prefix or wanted.name)
    prefix = prefixes.prefix_of("", "") if active else _named(options, wanted)
    if options.prune:
        _say(options, "--prune: packages that the file does not name stay")
    if prefixes.exists(prefix):
        _install(options, prefix, wanted, folder)
    else:
        _made(options, prefix, wanted, folder)


def _named(options, wanted):
    name = options.name or ("" if options.prefix else wanted.name)
    if not name and not options.prefix:
        raise CondaError("which environment? give -n NAME or -p PATH, or a name in the file")
    return prefixes.prefix_of(name, options.prefix)


def env_list(options):
    for name, prefix in prefixes.listed():
        print("%-20s %s" % (name, prefix))


def env_remove(options):
    prefixes.remove(_there(options))


def env_export(options):
    prefix = _there(options)
    print("name: %s" % (options.name or os.path.basename(prefix)))
    print("dependencies:\n- python=%d.%d.%d\n- pip\n- pip:" % _python())
    sys.stdout.flush()
    import subprocess

    freeze = [prefixes.python_of(prefix), "-m", "pip", "freeze"]
    for line in subprocess.run(freeze, stdout=subprocess.PIPE).stdout.decode().splitlines():
        print("  - %s" % line)


def _there(options):
    prefix = prefixes.prefix_of(options.name, options.prefix)
    if not prefixes.exists(prefix):
        raise CondaError(
            "there is no environment %s" % (options.name or prefix),
            ["conda env list shows those that there are"],
        )
    return prefix


def create(options):
    if not (options.name or options.prefix):
        raise CondaError("which environment? give -n NAME or -p PATH")
    wanted = environment.of_specs(options.packages, _python())
    _made(options, prefixes.prefix_of(options.name, options.prefix), wanted)


def install(options):
    if not options.packages:
        raise CondaError("name the packages to %s" % options.verb)
    wanted = environment.of_specs(options.packages, _python())
    _install(options, _there(options), wanted, upgrade=options.verb in ("update", "upgrade"))


def uninstall(options):
    prefix = _there(options)
    if options.all:
        return prefixes.remove(prefix)
    if not options.packages:
        raise CondaError("no package is named")
    wanted = environment.of_specs(options.packages, _python())
    return prefixes.pip(prefix, ["uninstall", "--yes", *wanted.packages])


def listing(options):
    return prefixes.pip(_there(options), ["list"])


def run(options):
    if not options.command:
        raise CondaError("run: no command is named")
    prefix = _there(options)
    if options.cwd:
        os.chdir(options.cwd)
    sys.stdout.flush()
    try:
        os.execvpe(options.command[0], options.command, shell.environment_of(prefix))
    except FileNotFoundError:
        raise CondaError("run: there is no program %s" % options.command[0], code=127) from None


def _split(arguments):
    """`run`'s own options, and the command."""
    at = 1
    while at < len(arguments) and arguments[at].startswith("-"):
        at += 1 + (arguments[at] in ("-n", "--name", "-p", "--prefix", "--cwd"))
    return arguments[:at], arguments[at:]


def info(options):
    active = prefixes.prefix_of("", "")
    if options.envs:
        return env_list(options)
    facts = {
        "about": ABOUT,
        "conda_version": VERSION,
        "active_prefix": active,
        "envs": sorted({prefix for _, prefix in prefixes.listed()}),
        "python_version": "%d.%d.%d" % _python(),
        "root_prefix": prefixes.amlenv(),
    }
    if options.json:
        print(json.dumps(facts, indent=2))
    else:
        for key, value in facts.items():
            print("%s: %s" % (key, ", ".join(value) if isinstance(value, list) else value))
    return 0


def clean(options):
    _say(options, "nothing to clean: packages are installed without a cache")


def config(options):
    _say(options, "channels and settings of conda are not used: pip's settings name the index")


def init(options):
    _say(options, "conda is a function of bash now, by %s" % shell.init())


def outside(options):
    """`conda activate` where `conda` is no function of the shell."""
    if options.verb == "activate" and options.environment in ("", prefixes.DEFAULT, "base"):
        first = os.environ.get("PATH", "").split(":")[0]
        if os.path.realpath(first) == os.path.join(prefixes.amlenv(), "bin"):
            _say(options, "%s is active already" % prefixes.DEFAULT)
            return
    raise CondaError(
        "a program cannot change the shell that runs it",
        [
            "first: %s" % shell.hook(),
            "or: conda run -n NAME COMMAND",
            'or, in a Dockerfile: ENV PATH="%s/envs/NAME/bin:$PATH"' % prefixes.ROOT,
        ],
    )


def for_shell(options):
    if options.what == "hook":
        lines = [shell.hook()]
    elif options.what == "activate":
        lines = shell.activate(options.environment)
    else:
        lines = shell.deactivate()
    print("\n".join(lines))


def read(options):
    """For plinth itself, on the machine that builds: what a file asks for, as JSON; or what is
    wrong with it."""
    python = tuple(int(part) for part in options.python.split("."))
    try:
        wanted = environment.of_file(options.file, python)
    except CondaError as error:
        print(json.dumps({"what": str(error), "details": error.details}))
        return error.code
    print(json.dumps({"packages": wanted.packages, "pip": wanted.pip, "notes": wanted.notes}))
    return 0


def _parser():
    parser = argparse.ArgumentParser(prog="conda", description=ABOUT)
    parser.add_argument("-V", "--version", action="version", version="conda %s" % VERSION)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    verbs.required = True

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-q", "--quiet", action="store_true")
    common.add_argument("--json", action="store_true")
    for flags in (("-y", "--yes"), ("--override-channels",), ("--no-update-deps",), ("-S",)):
        common.add_argument(*flags, action="store_true", help=argparse.SUPPRESS)
    common.add_argument("-v", "--verbose", action="count", help=argparse.SUPPRESS)
    common.add_argument("-c", "--channel", action="append", help="not asked: pip's index is")
    common.add_argument("--solver", "--experimental-solver", help=argparse.SUPPRESS)
    place = argparse.ArgumentParser(add_help=False)
    place.add_argument("-n", "--name", default="")
    place.add_argument("-p", "--prefix", default="")

    def verb(group, name, do, text, *parents, aliases=()):
        one = group.add_parser(name, help=text, parents=[common, *parents], aliases=list(aliases))
        one.set_defaults(do=do, envs=False)
        return one

    env = verbs.add_parser("env", help="environments, and files that describe them")
    of_env = env.add_subparsers(dest="env_verb", metavar="VERB")
    of_env.required = True
    for name, do in (("create", env_create), ("update", env_update)):
        one = verb(of_env, name, do, "%s an environment from a file" % name, place)
        one.add_argument("-f", "--file", default="environment.yml")
        one.add_argument("--force", action="store_true")
        one.add_argument("--prune", action="store_true")
    verb(of_env, "list", env_list, "the environments")
    verb(of_env, "remove", env_remove, "remove an environment", place)
    one = verb(of_env, "export", env_export, "an environment as a file", place)
    one.add_argument("--no-builds", "--from-history", action="store_true", help=argparse.SUPPRESS)

    for name, do, text, aliases in (
        ("create", create, "a new environment of the image's Python", ()),
        ("install", install, "install packages", ()),
        ("update", install, "install newer packages", ("upgrade",)),
        ("remove", uninstall, "uninstall packages", ("uninstall",)),
    ):
        one = verb(verbs, name, do, text, place, aliases=aliases)
        one.add_argument("packages", nargs="*")
        one.add_argument("--all", "-a", action="store_true")
    verb(verbs, "list", listing, "the packages of an environment", place)
    one = verb(verbs, "run", run, "run a command in an environment", place)
    one.add_argument("--cwd", default="")
    for flag in ("--no-capture-output", "--live-stream", "--no-live-stream"):
        one.add_argument(flag, action="store_true", help=argparse.SUPPRESS)
    one = verb(verbs, "info", info, "what this is")
    one.add_argument("-e", "--envs", action="store_true", default=False)
    # They take whatever conda takes.
    for name, do, text in (
        ("clean", clean, "nothing: there is no cache"),
        ("config", config, "nothing: conda's settings are not used"),
        ("init", init, "make conda a function of bash"),
    ):
        one = verbs.add_parser(name, help=text, add_help=False, prefix_chars="\0")
        one.add_argument("rest", nargs="*")
        one.set_defaults(do=do, quiet=False)
    for name in ("activate", "deactivate"):
        one = verb(verbs, name, outside, "for the shell function")
        one.add_argument("environment", nargs="?", default="")
    for name in ("shell.posix", "shell.bash"):
        one = verb(verbs, name, for_shell, "for the shell function")
        one.add_argument("what", choices=("hook", "activate", "deactivate"))
        one.add_argument("environment", nargs="?", default="")
    one = verb(verbs, "plinth-read", read, "what a file asks for, as JSON")
    one.add_argument("file")
    one.add_argument("--python", required=True, metavar="X.Y")
    return parser
