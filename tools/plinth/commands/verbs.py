"""The verbs of plinth, each defined here and nowhere else.

`plinth.commands.parser` makes the command line of them, `plinth.commands.tasks` the doit tasks,
`plinth.commands.handbook` docs/commands.md and `plinth.commands.completion` shell completion.
"""

from __future__ import annotations

from plinth.commands.verb import Operand, Option
from plinth.commands.verb import choice as _choice
from plinth.commands.verb import flag as _flag
from plinth.commands.verb import many as _many
from plinth.commands.verb import number as _number
from plinth.commands.verb import text as _text
from plinth.commands.verb import verb as _verb
from plinth.core.remote_settings import DOWNLOADS
from plinth.formats.oci.model import GZIP, ZSTD

IDS = Operand("ids", "ID", "an image of the checkout; ID+zstd: its form in zstd", "+")
ANY_IDS = Operand("ids", "ID", "an image of the checkout (default: all)", "*")
IMAGE = Operand("image", "ID", "an image of the checkout")
JSON = _flag("json", "print JSON", to="as_json")
BASE = _text("base", "NAME", "build on this base, or fail")
ACCELERATOR = _text("accelerator", "NAME", "build with this set (or cpu), or fail")
TRUST = _text("trust", "TRUST", "public, embedded, or the file of a client trust config")
POLICY = _text("policy", "FILE", "a policy (TOML): who must have signed")
NO_VERIFY = _flag("no-verify", "check digests, and no signature, whatever policy is set")
TOKEN = _text("identity-token", "FILE", "an OIDC token to sign with (-: stdin)")
FOLDER = _text("folder", "DIR", "folder of the trust domain (default: $PLINTH_TRUST, or yours)")
TRUSTED_ROOT = "a trusted_root.json"
AT_REGISTRY = "HOST/REPOSITORY[:TAG|@DIGEST]"
ANY_REF = (
    f"oci:PATH:NAME, oci-archive:FILE:NAME, docker-archive:FILE, {AT_REGISTRY}, or in a checkout "
    "an image id"
)
BUNDLE = "a bundle, or a folder of *.sigstore.json,"
ROLES = ("ca", "log", "ct", "tsa", "oidc")
ALL_BASES = "base"
"""What names all bases where one thing to lock is named."""

INTERPRETER = "interpreter"
"""What names, likewise, the interpreters of all bases, whose packages stay as they are locked."""

GROUPS = {"trust": "the embedded trust domain: keys, logs and a clock"}
"""Help of the words that begin several verbs."""

VERBS = (
    _verb(
        "lock",
        "images:lock",
        "compile hash-pinned locks of images, bases and accelerator sets",
        Operand(
            "names",
            "ID",
            "an image, a base, an accelerator set, `base` for all bases, or `interpreter` for "
            "their interpreters alone (default: all images and bases)",
            "*",
        ),
        _flag("upgrade", "let every package of images move to the newest version that fits"),
        _many("upgrade-package", "NAME", "let this package of images move to its newest version"),
        _flag("dry-run", "show what would move, and write no lock"),
        JSON,
        images=True,
    ),
    _verb(
        "outdated",
        "images:outdated",
        "which packages of images have newer releases",
        *(ANY_IDS, JSON),
        images=True,
    ),
    _verb(
        "build",
        "images:build",
        "build images into the OCI layout build/oci, without a Docker daemon",
        ANY_IDS,
        BASE,
        ACCELERATOR,
        _number("jobs", "N", "steps at once (default: all CPUs)"),
        _choice(
            "download",
            tuple(DOWNLOADS),
            "what a remote cache sends: nothing that is not read, layers of what is built, or what "
            "steps in between made, too (default: the settings')",
        ),
        images=True,
    ),
    _verb(
        "explain",
        "images:explain",
        "what changed, which layers a build would make, what a push would send",
        *(IDS, BASE, ACCELERATOR, JSON),
        images=True,
    ),
    _verb(
        "extend",
        "images:extend",
        "derive an image of your own, locked and built",
        Operand("image", "ID", "the image to add to"),
        _text("requirements", "FILE", "a requirements.txt", short="r"),
        _text("conda-file", "FILE", "a conda environment file: what a package index has of it"),
        _many("apt", "PACKAGE", "an OS package"),
        _many("bind", "PROJECT=INDEX", "a project that comes from this named index, and no other"),
        _text("name", "NAME", "the new image's id (default: ID-extended)"),
        BASE,
    ),
    _verb(
        "load",
        "images:load",
        "load built images into the Docker Engine, verified where the settings have a policy",
        *(IDS, NO_VERIFY),
        images=True,
        after="build",
    ),
    _verb(
        "test",
        "images:test",
        "start built images as a user would, and score with them",
        IDS,
        images=True,
        after="load",
    ),
    _verb(
        "sbom",
        "images:sbom",
        "write the SBOM (CycloneDX) of built images to build/sbom",
        IDS,
        images=True,
        after="build",
    ),
    _verb(
        "sign",
        "images:sign",
        "sign built images: signature, SLSA provenance and SBOM, attached in build/oci",
        *(IDS, TRUST, TOKEN),
        images=True,
        after="build",
    ),
    _verb(
        "verify",
        "verify:verify",
        "check signatures, provenance, SBOM and every byte of an image",
        Operand("references", "REF", f"{ANY_REF}; or plinth's own wheel", "+"),
        POLICY,
        _many(
            "identity", "WHO", "a trusted signer, as certificates have it; any of several will do"
        ),
        _text("issuer", "URL", "the OIDC issuer of the signer's identity"),
        _text("trusted-root", "FILE", TRUSTED_ROOT),
        TRUST,
        _many(
            "bundle",
            "PATH",
            f"{BUNDLE} beside those attached to the image; sha256:…: of those attached only this",
        ),
        _text("checkout", "DIR", "your own specifications and locks"),
        _text("image", "ID", "the image it must be"),
        Option(
            "platform",
            "what it must be for (default: linux/amd64)",
            default="linux/amd64",
            metavar="OS/ARCHITECTURE",
        ),
        _flag("rebuild", "build it again and compare"),
        _text("inputs", "DIR", "a store with locked files, to rebuild from or to compare with"),
        _flag("fresh", "ignore cached layer contents and verdicts"),
        _flag("offline", "do not refresh the root of the public Sigstore"),
        JSON,
        images=True,
        epilog="exit codes: 0 every check passed; 1 a check failed; 2 wrong usage; 3 something "
        "could not be read (no such image, no trusted root, no network), so nothing was decided.",
    ),
    _verb(
        "attest",
        "attest:attest",
        "build a signed image again and, where the bytes are the same, sign that they are",
        _text("rebuilt", "REF", ANY_REF, required=True),
        POLICY,
        _many("bundle", "PATH", f"{BUNDLE} beside those attached to the image"),
        _text("image", "ID", "the image it must be"),
        _text("inputs", "DIR", "a store with inputs"),
        *(TRUST, TOKEN),
        _text("out", "FILE", "write the bundle to a file, and attach it to nothing"),
        epilog="It verifies by the policy and signs with --trust. The bundle is attached to the "
        "image in its layout or registry.",
    ),
    _verb(
        "push",
        "registry:push",
        "push built images and their signatures to a registry, verified where a policy is set, and "
        "tag them",
        IDS,
        _text("to", "HOST[/PREFIX]", "where to (default: `publish` of the settings)"),
        _many(
            "mount-from", "REPOSITORY", "a repository of the registry that may have blobs already"
        ),
        _choice("compression", (GZIP, ZSTD), "push this form, made where it is missing"),
        _flag("soci", "with a SOCI index, by which containerd reads files before layers are there"),
        NO_VERIFY,
        _number("jobs", "N", "blobs at once (default: 4)", 4),
        *(POLICY, TRUST),
        images=True,
        after="build",
        epilog="exit codes: 0 pushed, and latest names it; 1 something failed, as the error says. "
        "Run it again at any time: blobs that the registry has are not sent again.",
    ),
    _verb(
        "tags",
        "registry:tags",
        "the tags of an image in a registry, and what they hold",
        *(Operand("image", "HOST/REPOSITORY"), JSON),
    ),
    _verb(
        "pull",
        "registry:pull",
        "pull an image and its signatures into an OCI layout, verified",
        Operand("reference", "REF", AT_REGISTRY),
        _text("layout", "DIR", "an OCI layout, or a new one", required=True),
        _text("name", "NAME", "its name there (default: its id; not verified: its repository's)"),
        NO_VERIFY,
        _number("jobs", "N", "layers at once (default: 4)", 4),
        *(POLICY, TRUST),
    ),
    _verb(
        "attach",
        "registry:attach",
        "attach an image's bundles to the same image in a registry",
        Operand("image", "ID", "a signed image: its id, or oci:PATH:NAME"),
        Operand("target", "REF", AT_REGISTRY),
        _many("bundle", "PATH", f"{BUNDLE} instead of those attached to the image"),
        NO_VERIFY,
    ),
    _verb(
        "diff",
        "diff:diff",
        "what differs between two images: packages, files, sizes, config",
        Operand("before", "REF", ANY_REF),
        Operand("after", "REF", "likewise"),
        JSON,
        epilog="exit codes: 0 nothing differs; 1 something does; 2 wrong usage; 3 an image cannot "
        "be read. Nothing here is verified: plinth verify does that.",
    ),
    _verb(
        "why",
        "look:why",
        "who requires a package of an image",
        IMAGE,
        Operand("package", "PACKAGE", "a Python or an OS package"),
        _flag("all", "every chain, not only the shortest ten", to="all_chains"),
        JSON,
    ),
    _verb(
        "graph",
        "look:graph",
        "draw what images are made of, shared layers in colour",
        ANY_IDS,
        _choice("format", ("dot", "svg", "json"), "(default: dot)", "dot", "form"),
        _flag("full", "every input and layer by itself, not in groups"),
        _text("out", "FILE", "(default: standard output)"),
    ),
    _verb(
        "du",
        "look:du",
        "bytes by image, layer or package, shared and not",
        ANY_IDS,
        _choice(
            "by",
            ("image", "layer", "package", "chain"),
            "(default: image, or layer where images are named); chain: how far each image begins "
            "like another, which is all that Docker's older stores share",
        ),
        JSON,
    ),
    _verb(
        "gc",
        "look:gc",
        "what in the build folder nothing refers to (--delete: delete it)",
        _flag("delete", "without it nothing is deleted"),
        _flag("list", "name every file", to="names"),
        JSON,
        epilog="Kept are all that build/oci/index.json reaches, what any lock names, and whatever "
        "is younger than an hour. Builds that run are waited for.",
    ),
    _verb(
        "doctor",
        "doctor:doctor",
        "what this machine can do, what it lacks, and what to do about it",
        _flag("store", "instead, read every file of the build folder and name what is damaged"),
        _flag("mend", "delete what is damaged, too; builds make it again"),
        JSON,
        epilog="exit codes: 0 images can be built here, nothing is damaged; 1 they cannot, or "
        "something is; 2 wrong usage",
    ),
    _verb(
        "validate",
        "images:validate",
        "check build/oci against the OCI specification and its own digests",
        JSON,
    ),
    _verb(
        "export",
        "airgap:export",
        "write images, and all that verifying and rebuilding takes, to one file",
        IDS,
        _text("out", "FILE", "the archive to write (tar)", required=True),
        _flag("no-inputs", "leave out what only rebuilding takes"),
        NO_VERIFY,
        _text("trust", "TRUST", "embedded: its root and a policy go along"),
        _text("trusted-root", "FILE", f"{TRUSTED_ROOT} to go along"),
    ),
    _verb(
        "import",
        "airgap:take_in",
        "take in what plinth export wrote",
        Operand("archive", "FILE"),
        _text("into", "DIR", "a folder (default: the checkout's build folder)"),
        _flag("replace", "also names that stand for other images there"),
        NO_VERIFY,
    ),
    _verb(
        "trust init",
        "trust:init",
        "make a trust domain",
        FOLDER,
        _text("identity", "WHO", "an email address or URI (default: you@here)"),
        _flag("encrypt", "encrypt keys with a passphrase"),
    ),
    _verb(
        "trust serve",
        "trust:serve",
        "serve it on this machine, for any sigstore client, until ^C",
        FOLDER,
        _number("port", "PORT", "(default: a free one)"),
    ),
    _verb("trust token", "trust:token", "print an identity token, good for five minutes", FOLDER),
    _verb(
        "trust export",
        "trust:export",
        "write what verifiers need: trusted root, certificates, public keys",
        FOLDER,
        Option("out", "where to (default: here)", default=".", metavar="DIR"),
        _number("port", "PORT", "also what signers need, for this port"),
    ),
    _verb(
        "trust rotate",
        "trust:rotate",
        "replace keys; what was signed stays verifiable",
        Operand("roles", "KEY", f"{', '.join(ROLES)} (default: all)", "*", ROLES),
        FOLDER,
    ),
    _verb(
        "trust show", "trust:show", "identity, keys and logs, every hash recomputed", FOLDER, JSON
    ),
    _verb(
        "trust prove",
        "trust:prove",
        "a proof for auditors: consistency of two sizes, inclusion of an entry",
        FOLDER,
        _number("first", "N", "the earlier size", None),
        _number("second", "M", "the later size (default: now)", None),
        _number("index", "I", "an entry, to prove its inclusion", None),
        _choice("log", ("log", "ct"), "which log (default: log)", "log"),
        _number("shard", "N", "which of its trees (default: in use)"),
    ),
    _verb(
        "catalog",
        "images:catalog",
        "write docs/catalog.md from specifications, locks and the images built",
        _flag("check", "only compare; fail on a difference"),
        after="build",
    ),
    _verb(
        "site",
        "images:site",
        "make the catalogue site in build/site: static pages of all images built",
        _text("out", "DIR", "where (default: build/site)"),
        *(POLICY, TRUST),
        after="build",
        epilog="Images are verified on the way where --policy, --trust or the settings name "
        "trusted signers; else the pages show that nothing was verified.",
    ),
    _verb("commands", "images:commands", "write docs/commands.md from the table of commands"),
    _verb(
        "self",
        "images:own",
        "make plinth's own wheel and its SBOM in build/self, the same bytes anywhere; and "
        "docs/licences.md",
        _flag("sign", "sign them: signature, SLSA provenance and SBOM, as images are signed"),
        TRUST,
        _text("identity-token", "FILE", "an OIDC token to sign with (-: stdin)"),
    ),
    _verb(
        "completion",
        "completion:completion",
        'completion for your shell: eval "$(plinth completion bash)"',
        Operand("shell", "SHELL", choices=("bash", "zsh")),
        epilog='bash: put eval "$(plinth completion bash)" into ~/.bashrc; zsh: plinth completion '
        "zsh > a folder of $fpath, as _plinth",
    ),
)
