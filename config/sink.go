package config

import (
	"cmp"
	"net/mail"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"kidoban/gateway/policy"
)

// Bounds of notices.
const (
	maxSinks     = 32 // each has a stream of its own
	maxReceivers = 50 // of one mail
)

// sinks are the two kinds of places for notices.
var sinks = []form{
	{name: "webhook", may: []string{"format"}},
	{name: "smtp", needs: []string{"from", "to"}, may: []string{"tls", "user"}},
}

func (r *reader) sink(e entry) *policy.Sink {
	s := &policy.Sink{Name: e.name, Language: "en"}
	f := r.mapping(e.value, "webhook?", "format?", "smtp?", "tls?", "from?", "to?", "user?", "secret_file?", "ca_file?", "kinds?", "language?")
	if f == nil {
		return s
	}
	switch r.formOf("sink", "where to", sinks, e.value, f) {
	case "webhook":
		r.webhook(s, f)
	case "smtp":
		r.mail(s, f)
	}
	s.SecretFile, s.CAFile = r.path(f["secret_file"]), r.path(f["ca_file"])
	for _, item := range r.list(f["kinds"]) {
		switch kind := r.oneWord(item, policy.NoticeKinds()...); {
		case kind == "":
		case slices.Contains(s.Kinds, kind):
			r.errorf(item, "%s is there twice", quote(kind))
		default:
			s.Kinds = append(s.Kinds, kind)
		}
	}
	if r.policy.Zone.String() == "Asia/Tokyo" {
		s.Language = "ja"
	}
	s.Language = cmp.Or(r.oneWord(f["language"], "en", "ja"), s.Language)
	return s
}

func (r *reader) webhook(s *policy.Sink, f map[string]value) {
	if text, ok := r.visible(f["webhook"]); ok {
		u, err := url.Parse(text)
		switch {
		case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Opaque != "" || !isHost(u.Hostname()):
			r.errorf(f["webhook"], "%s is no URL of a webhook: allowed is as in https://siem.example.jp/kidoban, with https or http and a DNS name or an address", quote(text))
		case u.Port() != "" && checkPort(u.Port()) != nil:
			r.errorf(f["webhook"], "%s has no port from 1 to 65535: allowed is none, or one of these", quote(text))
		case u.User != nil:
			r.errorf(f["webhook"], "has a user or a password: allowed is none; with secret_file messages are signed")
		case u.Fragment != "" || strings.HasSuffix(text, "#"):
			r.errorf(f["webhook"], "%s has a part behind #, which is never sent: allowed is without it", quote(text))
		case onThisHost(u.Hostname()):
			r.errorf(f["webhook"], "%s is loopback, link-local or no unicast address: allowed is another host's", quote(u.Hostname()))
		default:
			s.Webhook = text
			if u.Scheme == "http" {
				r.warn(f["webhook"], "policy_webhook_plain", nil)
			}
		}
	}
	s.Format = r.oneWord(f["format"], "slack", "teams", "ntfy")
	if s.Format != "" && f["secret_file"].present() {
		r.errorf(f["secret_file"].named(), "format %s has no signature: allowed is a secret_file without format", s.Format)
	}
}

// onThisHost reports loopback, link-local and other addresses that no receiver on the network has.
func onThisHost(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if a, err := netip.ParseAddr(host); err == nil {
		return checkUnicast(host, netip.PrefixFrom(a, a.BitLen())) != nil
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

func (r *reader) mail(s *policy.Sink, f map[string]value) {
	s.SMTP, _ = read(&r.decoder, f["smtp"], func(text string) (string, error) { return text, checkHostPort(text) })
	s.TLS = cmp.Or(r.oneWord(f["tls"], "required", "implicit", "none"), "required")
	s.From = r.mailbox(f["from"])
	for _, item := range r.upTo(maxReceivers, r.list(f["to"])) {
		switch to := r.mailbox(item); {
		case to == "":
		case slices.Contains(s.To, to):
			r.errorf(item, "%s is there twice", quote(to))
		default:
			s.To = append(s.To, to)
		}
	}
	s.User = r.display(f["user"])
	switch user, secret := f["user"], f["secret_file"]; {
	case user.present() && !secret.present() && !r.strange:
		r.errorf(user.named(), "has no password: allowed is with secret_file, which names the file of the password")
	case secret.present() && !user.present() && !r.strange:
		r.errorf(secret.named(), "is the password of nobody: allowed is with user")
	case user.present() && s.TLS == "none":
		r.errorf(user.named(), "a password is not sent in the clear: allowed is with tls: required or tls: implicit")
	}
}

// mailbox reads an address of mail, as in kidoban@hosp.example or Kidoban <kidoban@hosp.example>.
func (r *reader) mailbox(v value) string {
	text, ok := r.visible(v)
	if !ok {
		return ""
	}
	a, err := mail.ParseAddress(text)
	if err == nil {
		ok = isHost(a.Address[strings.LastIndex(a.Address, "@")+1:])
	}
	if err != nil || !ok {
		r.errorf(v, "%s is no address of mail: allowed is as in kidoban@hosp.example or Kidoban <kidoban@hosp.example>", quote(text))
		return ""
	}
	return text
}

// path reads the name of a file, and makes it absolute. The file is not opened.
func (r *reader) path(v value) string {
	text, ok := r.visible(v)
	if !ok {
		return ""
	}
	if !filepath.IsAbs(text) {
		text = filepath.Join(r.dir, text)
	}
	if absolute, err := filepath.Abs(text); err == nil {
		text = absolute
	}
	return text
}

// oneWord reads one of some words.
func (d *decoder) oneWord(v value, words ...string) string {
	word, _ := read(d, v, func(text string) (string, error) { return text, checkWord(words...)(text) })
	return word
}
