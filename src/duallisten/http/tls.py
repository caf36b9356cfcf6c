"""ASGI's extension `tls`: it describes the TLS connection to the application.

With `--ssl-cert-reqs` (or `--private-ssl-cert-reqs`) it identifies the client: it contains the client's certificate
and the name in it.

Source: ASGI, TLS extension 0.2; RFC 4514 for the form of a name. Python does not expose the server's own certificate
and, before 3.13, not the chain above the client's certificate.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

VERSIONS = {"TLSv1": 0x0301, "TLSv1.1": 0x0302, "TLSv1.2": 0x0303, "TLSv1.3": 0x0304}

SHORT_NAMES = {
    "commonName": "CN",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "streetAddress": "STREET",
    "domainComponent": "DC",
    "userId": "UID",
}
"""OpenSSL's names of attribute types, and the short names of RFC 4514, 3."""


def describe_tls(transport: asyncio.BaseTransport) -> dict[str, Any]:
    """Return the value of the `tls` extension for a transport."""
    tls: Any = transport.get_extra_info("ssl_object")
    described: dict[str, Any] = {
        "server_cert": None,
        "client_cert_chain": [],
        "client_cert_name": None,
        "client_cert_error": None,
        "tls_version": None,
        "cipher_suite": None,
    }
    if tls is None:  # the transport does not expose it
        return described
    described["tls_version"] = VERSIONS.get(tls.version() or "")
    described["cipher_suite"] = _suite(tls)
    certificate = tls.getpeercert(binary_form=True)
    if certificate is not None:
        described["client_cert_chain"] = [ssl.DER_cert_to_PEM_cert(one) for one in _chain(tls, certificate)]
        described["client_cert_name"] = name_of((tls.getpeercert() or {}).get("subject", ())) or None
    return described


def has_chosen_http2(transport: asyncio.BaseTransport) -> bool:
    """Whether HTTP/2 was negotiated in the TLS handshake (ALPN; RFC 7301)."""
    tls: Any = transport.get_extra_info("ssl_object")
    return tls is not None and tls.selected_alpn_protocol() == "h2"


def _chain(tls: Any, certificate: bytes) -> list[bytes]:
    if hasattr(tls, "get_verified_chain"):
        return list(tls.get_verified_chain()) or [certificate]
    return [certificate]


def _suite(tls: Any) -> int | None:
    """Return the IANA number of the cipher suite."""
    cipher = tls.cipher()
    known = {one["name"]: one["id"] & 0xFFFF for one in tls.context.get_ciphers()}
    return known.get(cipher[0]) if cipher else None


def name_of(subject: Any) -> str:
    """Format a certificate's subject as in RFC 4514: the last part first.

    Args:
        subject: As in `ssl.SSLSocket.getpeercert()`.
    """
    parts = (
        "+".join(f"{SHORT_NAMES.get(kind, kind)}={_escape(value)}" for kind, value in relative) for relative in subject
    )
    return ",".join(reversed(list(parts)))


def _escape(value: str) -> str:
    text = "".join(f"\\{one}" if one in ',+"\\<>;' else "\\00" if one == "\0" else one for one in value)
    if text.startswith(("#", " ")):
        text = f"\\{text}"
    return f"{text[:-1]}\\ " if text.endswith(" ") and not text.endswith("\\ ") else text
