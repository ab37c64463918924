// Package notify makes notices from journal entries, and delivers a notice to a webhook or to
// a mail server.
//
// A receiver is not trusted. It gets no secret, its answer is ignored, redirects are not
// followed, and it can hold a delivery up for ten seconds only. A name that resolves to the
// machine itself is refused.
package notify
