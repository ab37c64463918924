package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"kidoban/gateway/view"
)

const (
	// bodyRead is how much of an answer's body is read, to be ignored; headerRead bounds
	// its header. In bytes.
	bodyRead   = 4 << 10
	headerRead = 16 << 10
	// entryMost is the length of an entry, in bytes, that is sent with its event. Longer
	// ones are rosters of policies.
	entryMost = 16 << 10
)

// post delivers a notice to a webhook.
func (s Sender) post(ctx context.Context, n Notice, id string, now time.Time) error {
	body, header, err := s.body(n, id, now)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.Sink.Webhook, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("the webhook is no URL")
	}
	request.Header = header
	config, err := s.tlsConfig("")
	if err != nil {
		return err
	}
	client := http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		// No proxy: an environment must not choose who reads the notices.
		Transport: &http.Transport{DialContext: s.dialer().DialContext, TLSClientConfig: config, DisableKeepAlives: true,
			DisableCompression: true, MaxResponseHeaderBytes: headerRead},
	}
	response, err := client.Do(request)
	if err != nil {
		return cause(err)
	}
	defer response.Body.Close()
	_, _ = io.CopyN(io.Discard, response.Body, bodyRead)
	switch code := response.StatusCode; {
	case code >= 300 && code < 400:
		return fmt.Errorf("the receiver answers %d: redirects are not followed", code)
	case code < 200 || code >= 300:
		return fmt.Errorf("the receiver answers %d", code)
	}
	return nil
}

// body makes the body of a request, and its header.
func (s Sender) body(n Notice, id string, now time.Time) ([]byte, http.Header, error) {
	text := n.Text(s.Sink.Language, s.Site)
	header := http.Header{"Content-Type": {"application/json"}, "User-Agent": {"kidoban"}}
	switch s.Sink.Format {
	case "slack":
		// Slack's own marks, so that no name makes a link or calls everybody.
		escaped := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(text)
		body, err := encoded(map[string]string{"text": escaped})
		return body, header, err
	case "teams":
		body, err := encoded(card(text))
		return body, header, err
	case "ntfy":
		header.Set("Content-Type", "text/plain; charset=utf-8")
		return []byte(text), header, nil
	}
	body, err := s.standard(n, text)
	if err != nil || s.Sink.SecretFile == "" {
		return body, header, err
	}
	keys, err := secrets(s.Sink.SecretFile)
	if err != nil {
		return nil, nil, err
	}
	stamp := strconv.FormatInt(now.Unix(), 10)
	header.Set("webhook-id", id)
	header.Set("webhook-timestamp", stamp)
	header.Set("webhook-signature", signatures(keys, id, stamp, body))
	return body, header, nil
}

// standard is the body of a Standard Webhook.
func (s Sender) standard(n Notice, text string) ([]byte, error) {
	data := map[string]json.RawMessage{}
	if n.Entry != nil {
		if err := json.Unmarshal(n.Entry, &data); err != nil {
			return nil, fmt.Errorf("entry %d: %w", n.Index, err)
		}
		if len(n.Entry) > entryMost {
			delete(data, "event")
		}
		data["index"] = json.RawMessage(strconv.FormatInt(n.Index, 10))
	}
	for name, value := range map[string]string{"text": text, "site": s.Site} {
		quoted, err := encoded(value)
		if err != nil {
			return nil, err
		}
		data[name] = quoted
	}
	return encoded(struct {
		Type      string                     `json:"type"`
		Timestamp time.Time                  `json:"timestamp"`
		Data      map[string]json.RawMessage `json:"data"`
	}{n.Kind, n.Time, data})
}

// signatures signs as Standard Webhooks has it, once with each secret.
func signatures(keys [][]byte, id, stamp string, body []byte) string {
	var all []string
	for _, key := range keys {
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s.%s.%s", id, stamp, body)
		all = append(all, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return strings.Join(all, " ")
}

// card is an adaptive card of Teams. A TextRun has no marks, so no name makes a link.
func card(text string) any {
	type object = map[string]any
	return object{"type": "message", "attachments": []object{{
		"contentType": "application/vnd.microsoft.card.adaptive",
		"content": object{
			"$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4",
			"body": []object{{"type": "RichTextBlock", "inlines": []object{{"type": "TextRun", "text": text}}}},
		},
	}}}
}

func encoded(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// Host is where a sink's notices go, for people: no path, since that may be a secret.
func Host(s view.Sink) string {
	if s.Webhook == "" {
		return s.SMTP
	}
	u, err := url.Parse(s.Webhook)
	if err != nil {
		return ""
	}
	return u.Host
}
