package requests

import (
	"encoding/json"
	"errors"
	"net/url"

	"kidoban/cmd/kidoban/terminal"
	"kidoban/gateway/api"
	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// page is a part of a list. Its items are kept as they came, for JSON.
type page struct {
	Items []json.RawMessage `json:"items"`
	Next  string            `json:"next"`
}

// list asks for requests, page after page.
func list(p *terminal.Program, query url.Values) (page, []view.Request, error) {
	whole, requests := page{Items: []json.RawMessage{}}, []view.Request{}
	query.Set("limit", "500")
	for {
		text, zone, err := p.Client().Get("/v1/requests", query)
		if err != nil {
			return whole, nil, err
		}
		var one page
		if err := json.Unmarshal(text, &one); err != nil {
			return whole, nil, unknown(err)
		}
		for _, item := range one.Items {
			var r view.Request
			if err := json.Unmarshal(item, &r); err != nil {
				return whole, nil, unknown(err)
			}
			requests = append(requests, r)
		}
		p.Zone, whole.Items = zone, append(whole.Items, one.Items...)
		if one.Next == "" {
			return whole, requests, nil
		}
		query.Set("cursor", one.Next)
	}
}

func unknown(err error) error {
	return &view.Error{Message: view.Say("answer_unknown", view.Args{"cause": err})}
}

// one asks for a request. Its terms must have the digest that the gateway tells.
func one(p *terminal.Program, wanted id) (page, view.Request, error) {
	found, requests, err := list(p, url.Values{"id": {string(wanted)}})
	if err != nil {
		return found, view.Request{}, err
	}
	if len(requests) != 1 || requests[0].ID != string(wanted) {
		return found, view.Request{}, &terminal.Exit{Message: view.Say("no_request", view.Args{"id": string(wanted), "near": ""}), Status: terminal.No}
	}
	r := requests[0]
	return found, r, agrees(r.Terms, r.Digest)
}

// agrees refuses terms with another digest than the gateway tells.
func agrees(t policy.Terms, digest string) error {
	if own := t.Digest(); own != digest {
		return &view.Error{Message: view.Say("digest_differs", view.Args{"id": t.ID, "digest": own, "told": digest})}
	}
	return nil
}

// order gives a command about a request, and prints the answer as JSON where that was
// asked for. Else show is true.
func order(p *terminal.Program, j terminal.JSONFlag, path string, body any) (answer api.Recorded, show bool, err error) {
	text, zone, err := p.Client().Post(path, body)
	if err != nil {
		return answer, false, err
	}
	show, err = j.Answer(p, text, zone, &answer)
	return answer, show, err
}

// problem is the problem with a code, or nil.
func problem(err error, code view.Code) *api.Problem {
	var p *api.Problem
	if errors.As(err, &p) && p.Code == code {
		return p
	}
	return nil
}
