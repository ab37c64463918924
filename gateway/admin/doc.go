// Package admin is the socket through which operators reach the gateway:
// HTTP and JSON under /v1 on a Unix socket, errors as problem details
// (RFC 9457).
//
// Who may connect is decided by the socket's mode (0660, group kidoban); who
// it was is what the kernel says of the peer (SO_PEERCRED), never what the
// peer says. A request that carries an Origin, or a Host other than "kidoban"
// or "localhost", comes from a browser and is refused.
//
//	GET  /v1/status /v1/sessions /v1/grants /v1/refusals
//	GET  /v1/explain?engineer=&from=&to=&at=
//	GET  /v1/calendar?from=&until=
//	GET  /v1/client-config?engineer=&mtu=
//	POST /v1/close /v1/reopen {"scope": "...", "reason": "..."}
//	POST /v1/reload
//	POST /v1/recover {"reason": "..."}
package admin
