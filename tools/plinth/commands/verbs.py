"""The verbs of plinth, each defined here and nowhere else.

`plinth.commands.parser` makes the command line of them, `plinth.commands.tasks` the doit tasks,
`plinth.commands.handbook` docs/commands.md and `plinth.commands.completion` shell completion.
"""

from __future__ import annotations

from plinth.commands.verb import Operand, Option, Verb
from plinth.core.remote_settings import DOWNLOADS


def _flag(name: str, text: str, to: str = "") -> Option:
    return Option(name, text, bool, default=False, to=to)


def _many(name: str, metavar: str, text: str, to: str = "") -> Option:
    return Option(name, text, list, default=(), metavar=metavar, to=to)


def _number(name: str, text: str, default: int | None, metavar: str = "") -> Option:
    return Option(name, text, int, default=default, metavar=metavar)


IDS = (Operand("ids", "ID", "an image of the checkout", "+"),)
ANY_IDS = (Operand("ids", "ID", "an image of the checkout (default: all)", "*"),)
JSON = _flag("json", "print JSON", to="as_json")
BASE = Option("base", "build on this base, or fail", metavar="NAME")
ACCELERATOR = Option("accelerator", "build with this set (or cpu), or fail", metavar="NAME")
TRUST = Option("trust", "public, embedded, or the file of a client trust config", metavar="TRUST")
POLICY = Option("policy", "a policy (TOML): who must have signed", metavar="FILE")
FOLDER = Option(
    "folder", "folder of the trust domain (default: $PLINTH_TRUST, or yours)", metavar="DIR"
)
REGISTRY_REF = "HOST/REPOSITORY[:TAG|@DIGEST]"
REF = (
    f"oci:PATH:NAME, oci-archive:FILE:NAME, docker-archive:FILE, {REGISTRY_REF}, or in a checkout "
    "an image id"
)
ROLES = ("ca", "log", "ct", "tsa", "oidc")

ALL_BASES = "base"
"""What names all bases where one thing to lock is named."""

GROUPS = {"trust": "the embedded trust domain: keys, logs and a clock"}
"""Help of the words that begin several verbs."""

VERBS = (
    Verb(
        "lock",
        "compile hash-pinned locks of images, bases and accelerator sets",
        "images:lock",
        (
            Operand(
                "names",
                "ID",
                "an image, a base, an accelerator set, or `base` for all bases "
                "(default: all images and bases)",
                "*",
            ),
        ),
        (
            _many(
                "upgrade-package",
                "NAME",
                "let this package of images move to its newest version (may be repeated)",
                to="upgrade",
            ),
        ),
        per_image=True,
    ),
    Verb(
        "build",
        "build images into the OCI layout build/oci, without a Docker daemon",
        "images:build",
        ANY_IDS,
        (
            BASE,
            ACCELERATOR,
            _number("jobs", "steps at once (default: all CPUs)", 0, "N"),
            Option(
                "download",
                "what a remote cache sends: nothing that is not read, layers of what is built, or "
                "what steps in between made, too (default: the settings')",
                choices=tuple(DOWNLOADS),
            ),
        ),
        per_image=True,
    ),
    Verb(
        "explain",
        "what changed, which layers a build would make, what a push would send",
        "images:explain",
        IDS,
        (BASE, ACCELERATOR, JSON),
        per_image=True,
    ),
    Verb(
        "extend",
        "derive an image of your own, locked and built",
        "images:extend",
        (Operand("image", "ID", "the image to add to"),),
        (
            Option("requirements", "a requirements.txt", metavar="FILE", short="r"),
            _many("apt", "PACKAGE", "an OS package (may be repeated)", to="packages"),
            Option("name", "the new image's id (default: ID-extended)", metavar="NAME"),
            BASE,
        ),
    ),
    Verb(
        "load",
        "load built images into the Docker Engine",
        "images:load",
        IDS,
        per_image=True,
        after="build",
    ),
    Verb(
        "test",
        "start built images as a user would, and score with them",
        "images:test",
        IDS,
        per_image=True,
        after="load",
    ),
    Verb(
        "sbom",
        "write the SBOM (CycloneDX) of built images to build/sbom",
        "images:sbom",
        IDS,
        per_image=True,
        after="build",
    ),
    Verb(
        "sign",
        "sign built images: signature, SLSA provenance and SBOM, attached in build/oci",
        "images:sign",
        IDS,
        (
            TRUST,
            Option("identity-token", "an OIDC token to sign with (-: stdin)", metavar="FILE"),
        ),
        per_image=True,
        after="build",
    ),
    Verb(
        "verify",
        "check signatures, provenance, SBOM and every byte of an image",
        "verify:verify",
        (Operand("references", "REF", REF, "+"),),
        (
            POLICY,
            _many(
                "identity",
                "WHO",
                "a signer that is trusted, as certificates have it (may be repeated: any of them)",
            ),
            Option("issuer", "the OIDC issuer of the signer's identity", metavar="URL"),
            Option("trusted-root", "a trusted_root.json", metavar="FILE"),
            TRUST,
            _many(
                "bundle",
                "PATH",
                "a bundle, or a folder of *.sigstore.json, beside those attached to the image",
            ),
            Option("checkout", "your own specifications and locks", metavar="DIR"),
            Option("image", "the image it must be", metavar="ID"),
            _flag("rebuild", "build it again and compare"),
            Option("inputs", "a store with inputs for --rebuild", metavar="DIR"),
            _flag("fresh", "ignore cached layer contents"),
            _flag("offline", "do not refresh the root of the public Sigstore"),
            JSON,
        ),
        "exit codes: 0 every check passed; 1 a check failed; 2 wrong usage; 3 something could not "
        "be read (no such image, no trusted root, no network), so nothing was decided.",
        per_image=True,
        checkout=False,
    ),
    Verb(
        "push",
        "push built images and their signatures to a registry, and tag them",
        "registry:push",
        IDS,
        (
            Option("to", "where to (default: `publish` of the settings)", metavar="HOST[/PREFIX]"),
            _many(
                "mount-from",
                "REPOSITORY",
                "a repository of the registry that may have blobs already (may be repeated)",
            ),
            _number("jobs", "blobs at once (default: 4)", 4, "N"),
            POLICY,
            TRUST,
        ),
        "exit codes: 0 pushed, and latest names it; 1 something failed, as the error says. Run it "
        "again at any time: blobs that the registry has are not sent again.",
        per_image=True,
        after="build",
    ),
    Verb(
        "tags",
        "the tags of an image in a registry, and what they hold",
        "registry:tags",
        (Operand("image", "HOST/REPOSITORY"),),
        (JSON,),
        checkout=False,
    ),
    Verb(
        "pull",
        "pull an image and its signatures into an OCI layout, verified",
        "registry:pull",
        (Operand("reference", "REF", REGISTRY_REF),),
        (
            Option("layout", "an OCI layout, or a new one", metavar="DIR", required=True),
            Option("name", "its name there (default: the image's id)", metavar="NAME"),
            _flag("no-verify", "check digests, and no signature"),
            _number("jobs", "layers at once (default: 4)", 4, "N"),
            POLICY,
            TRUST,
        ),
        checkout=False,
    ),
    Verb(
        "attach",
        "attach an image's bundles to the same image in a registry",
        "registry:attach",
        (
            Operand("image", "ID", "a signed image: its id, or oci:PATH:NAME"),
            Operand("target", "REF", REGISTRY_REF),
        ),
        (
            _many(
                "bundle",
                "PATH",
                "a bundle, or a folder of *.sigstore.json, instead of those attached to the image",
            ),
        ),
        checkout=False,
    ),
    Verb(
        "diff",
        "what differs between two images: packages, files, sizes, config",
        "diff:diff",
        (Operand("before", "REF", REF), Operand("after", "REF", "as before")),
        (JSON,),
        "exit codes: 0 nothing differs; 1 something does; 2 wrong usage; 3 an image cannot be "
        "read. Nothing here is verified: plinth verify does that.",
        checkout=False,
    ),
    Verb(
        "why",
        "who requires a package of an image",
        "look:why",
        (
            Operand("image", "ID", "an image of the checkout"),
            Operand("package", "PACKAGE", "a Python or an OS package"),
        ),
        (_flag("all", "every chain, not only the shortest ten", to="all_chains"), JSON),
    ),
    Verb(
        "graph",
        "draw what images are made of, shared layers in colour",
        "look:graph",
        ANY_IDS,
        (
            Option(
                "format",
                "(default: dot)",
                default="dot",
                choices=("dot", "svg", "json"),
                to="form",
            ),
            _flag("full", "every input and layer by itself, not in groups"),
            Option("out", "(default: standard output)", metavar="FILE"),
        ),
    ),
    Verb(
        "du",
        "bytes by image, layer or package, shared and not",
        "look:du",
        ANY_IDS,
        (
            Option(
                "by",
                "(default: image, or layer where images are named)",
                choices=("image", "layer", "package"),
            ),
            JSON,
        ),
    ),
    Verb(
        "gc",
        "what in the build folder nothing refers to (--delete: delete it)",
        "look:gc",
        (),
        (
            _flag("delete", "without it nothing is deleted"),
            _flag("list", "name every file", to="names"),
            JSON,
        ),
        "Kept are all that build/oci/index.json reaches, what any lock names, and whatever is "
        "younger than an hour. Builds that run are waited for.",
    ),
    Verb(
        "doctor",
        "what this machine can do, what it lacks, and what to do about it",
        "doctor:doctor",
        (),
        (
            _flag("store", "instead, read every file of the build folder and name what is damaged"),
            _flag("mend", "delete what is damaged, too; builds make it again"),
            JSON,
        ),
        "exit codes: 0 images can be built here, nothing is damaged; 1 they cannot, or something "
        "is; 2 wrong usage",
        checkout=False,
    ),
    Verb(
        "validate",
        "check build/oci against the OCI specification and its own digests",
        "images:validate",
        (),
        (JSON,),
    ),
    Verb(
        "export",
        "write images, and all that verifying and rebuilding takes, to one file",
        "airgap:export",
        IDS,
        (
            Option("out", "the archive to write (tar)", metavar="FILE", required=True),
            _flag("no-inputs", "leave out what only rebuilding takes"),
            Option("trust", "embedded: its root and a policy go along", metavar="TRUST"),
            Option("trusted-root", "a trusted_root.json to go along", metavar="FILE"),
        ),
    ),
    Verb(
        "import",
        "take in what plinth export wrote",
        "airgap:take_in",
        (Operand("archive", "FILE"),),
        (
            Option("into", "a folder (default: the checkout's build folder)", metavar="DIR"),
            _flag("replace", "also names that stand for other images there"),
        ),
        checkout=False,
    ),
    Verb(
        "trust init",
        "make a trust domain",
        "trust:init",
        (),
        (
            FOLDER,
            Option("identity", "an email address or URI (default: you@here)", metavar="WHO"),
            _flag("encrypt", "encrypt keys with a passphrase"),
        ),
        checkout=False,
    ),
    Verb(
        "trust serve",
        "serve it on this machine, for any sigstore client, until ^C",
        "trust:serve",
        (),
        (FOLDER, _number("port", "(default: a free one)", 0)),
        checkout=False,
    ),
    Verb(
        "trust token",
        "print an identity token, good for five minutes",
        "trust:token",
        (),
        (FOLDER,),
        checkout=False,
    ),
    Verb(
        "trust export",
        "write what verifiers need: trusted root, certificates, public keys",
        "trust:export",
        (),
        (
            FOLDER,
            Option("out", "where to (default: here)", default=".", metavar="DIR"),
            _number("port", "also what signers need, for this port", 0),
        ),
        checkout=False,
    ),
    Verb(
        "trust rotate",
        "replace keys; what was signed stays verifiable",
        "trust:rotate",
        (Operand("roles", "KEY", f"{', '.join(ROLES)} (default: all)", "*", ROLES),),
        (FOLDER,),
        checkout=False,
    ),
    Verb(
        "trust show",
        "identity, keys and logs, every hash recomputed",
        "trust:show",
        (),
        (FOLDER, JSON),
        checkout=False,
    ),
    Verb(
        "trust prove",
        "a proof for auditors: consistency of two sizes, inclusion of an entry",
        "trust:prove",
        (),
        (
            FOLDER,
            _number("first", "the earlier size", None, "N"),
            _number("second", "the later size (default: now)", None, "M"),
            _number("index", "an entry, to prove its inclusion", None, "I"),
            Option("log", "which log (default: log)", default="log", choices=("log", "ct")),
            _number("shard", "which of its trees (default: in use)", 0, "N"),
        ),
        checkout=False,
    ),
    Verb(
        "catalog",
        "write docs/catalog.md from specifications, locks and the images built",
        "images:catalog",
        (),
        (_flag("check", "only compare; fail on a difference"),),
        after="build",
    ),
    Verb(
        "site",
        "make the catalogue site in build/site: static pages of all images built",
        "images:site",
        (),
        (Option("out", "where (default: build/site)", metavar="DIR"), POLICY, TRUST),
        "Images are verified on the way where --policy, --trust or the settings name trusted "
        "signers; else the pages show that nothing was verified.",
        after="build",
    ),
    Verb("commands", "write docs/commands.md from the table of commands", "images:commands"),
    Verb(
        "self",
        "write docs/licences.md and build/plinth.cdx.json: what plinth itself depends on",
        "images:own",
    ),
    Verb(
        "completion",
        'completion for your shell: eval "$(plinth completion bash)"',
        "completion:completion",
        (Operand("shell", "SHELL", choices=("bash", "zsh")),),
        (),
        'bash: put eval "$(plinth completion bash)" into ~/.bashrc; zsh: plinth completion zsh > '
        "a folder of $fpath, as _plinth",
        checkout=False,
    ),
)
