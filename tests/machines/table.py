"""The machines: what README's first command meets in the world."""

from __future__ import annotations

from machines.machine import CHECKOUT, Expected, Machine

CANONICAL = "ubuntu18.04-py37"
EMBEDDED = "debian12-py37"
LOCAL = f"{EMBEDDED}-local"

_BUILD = ".venv/bin/doit build:minimal"
_NO_APT = f"python3 -m venv .venv && .venv/bin/pip install -e . && {_BUILD}"
"""README's command where apt cannot be asked, or has nothing to install."""

_ON_CANONICAL = Expected(base=CANONICAL)
_ON_LOCAL = Expected(base=LOCAL, text=(f"building on {LOCAL}, which is part of the image's name",))
_NO_BASE = Expected(
    1,
    (
        f"neither {CANONICAL} nor {EMBEDDED} can be built on this machine",
        r"install a CPython 3\.7 ",
        "plinth import FILE",
    ),
    seconds=3,
    nothing_asked=True,
)
# Five of them go to the silent places.
_LOST = Expected(base=LOCAL, by={f"building on {LOCAL}": 6})

# One file is enough: the date in the program makes every build another one.
_OTHER_BUILD = "echo '# built elsewhere' >>/root/.pyenv/versions/3.7.*/lib/python3.7/os.py\n"
_UBUNTU = """
rm -r /etc/apt/sources.list.d/* /usr/share/keyrings/debian-archive-*
cat >/etc/apt/sources.list.d/ubuntu.sources <<END
Types: deb
URIs: http://archive.ubuntu.com/ubuntu/
Suites: noble noble-updates noble-backports
Components: main universe restricted multiverse
Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg
END
"""
_NO_BUBBLEWRAP = "dpkg --force-all --purge bubblewrap >/dev/null 2>&1\n"
_NO_GIT = "dpkg --force-all --purge git >/dev/null 2>&1\n"
_TARBALL = f"rm -rf {CHECKOUT}/.git\n"


def _sandbox_refused(*text: str) -> Expected:
    return Expected(1, text, seconds=5)


MACHINES = (
    Machine("Debian 12, as root", _ON_CANONICAL, installed=False),
    Machine("Debian 12, with sudo", _ON_CANONICAL, installed=False, user="user"),
    Machine("Debian 12, scikit-learn", _ON_CANONICAL, image="sklearn-0.24.1"),
    Machine("Debian 13", _ON_CANONICAL, tree="trixie", installed=False),
    Machine("offline", _NO_BASE, network="none", named=False, command=_BUILD),
    Machine(
        "offline, `PLINTH_PUBLIC=false`",
        _NO_BASE,
        network="none",
        named=False,
        command=_BUILD,
        environment={"PLINTH_PUBLIC": "false"},
    ),
    Machine(
        "packets are lost; another build of 3.7.16",
        _LOST,
        network="lost",
        named=False,
        python=True,
        made=_OTHER_BUILD,
        command=_BUILD,
    ),
    Machine(
        "packets to the name server are lost; another build of 3.7.16",
        _LOST,
        network="lost",
        named=False,
        python=True,
        made=f"{_OTHER_BUILD}grep -v 198.51 /etc/hosts >/tmp/hosts\ncat /tmp/hosts >/etc/hosts\n",
        command=_BUILD,
    ),
    Machine(
        "the locked build of 3.7.16",
        Expected(base=EMBEDDED),
        network="archives",
        named=False,
        python=True,
        command=_BUILD,
    ),
    Machine(
        "another build of 3.7.16",
        _ON_LOCAL,
        network="archives",
        named=False,
        python=True,
        made=_OTHER_BUILD,
        command=_BUILD,
    ),
    Machine(
        "another build of 3.7.16, insisted on the locked one",
        Expected(
            1, (f"another build than the one the base {EMBEDDED} is locked to",), nothing_asked=True
        ),
        network="archives",
        named=False,
        python=True,
        made=_OTHER_BUILD,
        command=f"{_BUILD} base={EMBEDDED}",
    ),
    Machine(
        "Debian 13; another build of 3.7.16",
        _ON_LOCAL,
        tree="trixie",
        network="archives",
        named=False,
        python=True,
        made=_OTHER_BUILD,
        command=_BUILD,
    ),
    Machine("Ubuntu's apt sources", _ON_CANONICAL, made=_UBUNTU, command=_BUILD),
    Machine(
        "Ubuntu's apt sources; another build of 3.7.16",
        Expected(
            1,
            (
                f"neither {CANONICAL} nor {EMBEDDED} can be built",
                f"{EMBEDDED}: no archive is configured for bookworm",
                "2. set apt.debian ",
            ),
            seconds=3,
            nothing_asked=True,
        ),
        network="archives",
        named=False,
        python=True,
        made=_UBUNTU + _OTHER_BUILD,
        command=_BUILD,
    ),
    Machine("a uid without a name", _ON_CANONICAL, user="4711", environment={"HOME": "/"}),
    Machine("a uid without a name, no HOME", _ON_CANONICAL, user="4711", environment={"HOME": ""}),
    Machine(
        "a uid without a name, no HOME, no settings, offline",
        _NO_BASE,
        user="4711",
        environment={"HOME": ""},
        network="none",
        named=False,
        command=_BUILD,
    ),
    Machine("no HOME", _ON_CANONICAL, user="user", environment={"HOME": ""}, command=_NO_APT),
    Machine(
        "a read-only HOME",
        _ON_CANONICAL,
        user="user",
        made="mount -t tmpfs -o ro home /home/user",
        command=_NO_APT,
    ),
    Machine(
        "root without user namespaces",
        _sandbox_refused(r"sysctl -w user\.max_user_namespaces="),
        refuse="user namespaces",
        command=_BUILD,
    ),
    Machine(
        "a user without user namespaces",
        _sandbox_refused(r"sysctl -w user\.max_user_namespaces="),
        refuse="user namespaces",
        user="user",
        command=_BUILD,
    ),
    Machine(
        "AppArmor refuses user namespaces",
        _sandbox_refused(r"sysctl -w kernel\.apparmor_restrict_unprivileged_userns=0"),
        refuse="uid maps",
        user="user",
        command=_BUILD,
    ),
    Machine(
        "no bubblewrap, no engine",
        _sandbox_refused("bubblewrap is not installed", "apt-get install (-y )?bubblewrap"),
        made=_NO_BUBBLEWRAP,
        command=_BUILD,
    ),
    Machine(
        "no bubblewrap; a Docker Engine",
        _ON_CANONICAL,
        made=_NO_BUBBLEWRAP,
        command=_BUILD,
        engine=True,
    ),
    Machine("a company's TLS", _ON_CANONICAL, network="company"),
    Machine(
        "a company's proxy and TLS",
        _ON_CANONICAL,
        network="proxy",
        named=False,
        user="user",
        command=_NO_APT,
    ),
    Machine("git missing", _ON_CANONICAL, made=_NO_GIT, command=_BUILD),
    Machine("a tarball", _ON_CANONICAL, made=_TARBALL, command=_BUILD),
    Machine("a tarball, git missing", _ON_CANONICAL, made=_TARBALL + _NO_GIT),
)
"""Every machine. Images of one name have one digest on all of them."""

QUICK = ("offline", "a uid without a name, no HOME")
"""Those of the default run."""
