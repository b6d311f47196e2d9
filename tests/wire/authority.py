"""A certificate authority in a directory, made with the openssl command: certificates, keys, revocation lists."""

import subprocess
from pathlib import Path
from typing import NamedTuple

_CONFIG = """\
[ca]
default_ca = here
[here]
database = {directory}/index.txt
crlnumber = {directory}/crlnumber
certificate = {directory}/ca.pem
private_key = {directory}/ca.key
default_md = sha256
default_crl_days = 30
crl_extensions = crl
[crl]
authorityKeyIdentifier = keyid:always
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = CA:FALSE
subjectAltName = IP:127.0.0.1, DNS:localhost
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""
_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Pair(NamedTuple):
    """A certificate and its key."""

    cert: Path
    key: Path


class Authority:
    """One authority; `ca` is its certificate."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        self._directory = directory
        self._config = directory / "openssl.cnf"
        self._config.write_text(_CONFIG.format(directory=directory), encoding="utf-8")
        (directory / "index.txt").touch()
        (directory / "crlnumber").write_text("01\n", encoding="utf-8")
        self.ca = directory / "ca.pem"
        name = f"/CN=authority {directory.name}"
        own = ("-x509", *_NEW_KEY, "-keyout", str(directory / "ca.key"), "-out", str(self.ca), "-subj", name)
        self._openssl("req", *own, "-days", "30", "-extensions", "authority", "-config", str(self._config))

    def issue(self, name: str) -> Pair:
        """A certificate for 127.0.0.1 and localhost, or for a client."""
        pair = Pair(self._directory / f"{name}.pem", self._directory / f"{name}.key")
        request = self._directory / f"{name}.csr"
        asked = ("-new", *_NEW_KEY, "-keyout", str(pair.key), "-out", str(request), "-subj", f"/CN={name}")
        self._openssl("req", *asked, "-config", str(self._config))
        signed = ("-req", "-in", str(request), "-out", str(pair.cert), "-days", "30", "-CAcreateserial")
        by = ("-CA", str(self.ca), "-CAkey", str(self._directory / "ca.key"))
        self._openssl("x509", *signed, *by, "-extfile", str(self._config), "-extensions", "leaf")
        return pair

    def revoke(self, *pairs: Pair) -> Path:
        """The revocation list with these in it, and those revoked before."""
        for pair in pairs:
            self._openssl("ca", "-config", str(self._config), "-revoke", str(pair.cert))
        crl = self._directory / "crl.pem"
        self._openssl("ca", "-config", str(self._config), "-gencrl", "-out", str(crl))
        return crl

    def _openssl(self, *words: str) -> None:
        ran = subprocess.run(["openssl", *words], capture_output=True, text=True, check=False, timeout=30)
        assert ran.returncode == 0, ran.stderr
