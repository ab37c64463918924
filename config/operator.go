package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"kidoban/gateway/policy"
)

// maxOperators bounds the operators: the check of approvals compares every approver with every recorder.
const maxOperators = 200

// operators reads who decides about requests. strange: the file has parts that could not be read,
// which may be meant as this one.
func (r *reader) operators(v value, strange bool) {
	before := r.told()
	r.policy.Operators, r.byName = named(&r.decoder, v, r.operator)
	r.atMost(maxOperators, len(r.byName), v)
	r.settled = r.told() == before && !strange && v.present() == v.readable()
	switch {
	case !v.present() && !strange:
		r.byName = map[string]*policy.Operator{}
	case len(r.byName) == 0 || len(r.byName) > maxOperators: // it has been reported
		r.byName = nil
	}
}

// atMost bounds the n entries of a mapping at v.
func (d *decoder) atMost(most, n int, v value) {
	if n > most {
		d.errorf(v.named(), "has %d entries: allowed are %d", n, most)
	}
}

func (r *reader) operator(e entry) *policy.Operator {
	o := &policy.Operator{Name: e.name}
	f := r.mapping(e.value, "name?", "user?", "may", "passkeys?")
	if f == nil {
		return o
	}
	o.DisplayName = r.display(f["name"])
	if user, ok := read(&r.decoder, f["user"], parseUser); ok {
		if other, twice := r.users[user]; twice {
			r.errorf(f["user"], "%s is the user of %s already: each operator is one person with a login of their own", quote(user), shown(other.Name))
		} else {
			o.User, r.users[user] = user, o
		}
	} else if !f["user"].present() && !r.strange {
		r.warn(e.named(), "policy_operator_idle", nil)
	}
	rights := map[string]policy.Right{}
	for _, right := range policy.Rights() {
		rights[string(right)] = right
	}
	o.Rights = references(&r.decoder, f["may"], "right", rights)
	for _, item := range r.list(f["passkeys"]) {
		passkey, ok := read(&r.decoder, item, parsePasskey)
		if !ok {
			continue
		}
		if other, twice := r.passkeys[passkey]; twice {
			r.errorf(item, "is a passkey of %s already: each operator has passkeys of their own", shown(other.Name))
			continue
		}
		r.passkeys[passkey] = o
		o.Passkeys = append(o.Passkeys, passkey)
	}
	return o
}

// parseUser reads a login of the gateway's host.
func parseUser(text string) (string, error) {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	switch {
	case text == "root" || strings.Trim(text, "0") == "":
		return "", fmt.Errorf("%s is not one person: allowed is a login that one person has", quote(text))
	case len(text) > 64 || strings.Trim(text, letters+`._-@\`) != "" || !strings.Contains(letters+"_", text[:1]):
		return "", fmt.Errorf("%s is no login: allowed is what `id -un` shows, up to 64 of letters, digits, '.', '_', '-', '@' and '\\', beginning with a letter, a digit or '_'", quote(text))
	}
	return text, nil
}

// parsePasskey checks the public key of a passkey. It gives the canonical text, so that a key cannot be
// listed twice in two spellings.
func parsePasskey(text string) (string, error) {
	encoded, known := strings.CutPrefix(text, "es256:")
	raw, err := base64.StdEncoding.Strict().DecodeString(encoded)
	var public any
	if err == nil {
		public, err = x509.ParsePKIXPublicKey(raw)
	}
	key, ok := public.(*ecdsa.PublicKey)
	if !known || err != nil || !ok || key.Curve != elliptic.P256() {
		return "", fmt.Errorf("%s is no passkey: allowed is es256: and the base64 of a P-256 public key (SubjectPublicKeyInfo), which begins with MFkw", quote(text))
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	return "es256:" + base64.StdEncoding.EncodeToString(der), err
}

func (r *reader) reopenAll(v value) {
	f := r.mapping(v, "approvals")
	if !v.present() || r.withoutOperators(v) {
		return
	}
	most, text := 1000, "as many as there are operators who may approve"
	if r.settled {
		if most = len(r.entitled(policy.MayApprove)); most == 0 {
			r.errorf(v.named(), "nobody may approve: at least one operator needs may: [approve]")
			return
		}
		text = fmt.Sprintf("%d, which is how many operators may approve", most)
	}
	r.policy.ReopenAll = r.number(f["approvals"], most, text)
}

// number reads a number from 1 to most. The error has text in place of most.
func (d *decoder) number(v value, most int, text string) int {
	n, _ := read(d, v, func(word string) (int, error) {
		n, err := strconv.ParseUint(word, 10, 16)
		if err != nil || n < 1 || int(n) > most {
			return 0, fmt.Errorf("is %s: allowed is a number from 1 to %s", quote(word), text)
		}
		return int(n), nil
	})
	return n
}

// withoutOperators reports a field at v that needs operators, where the policy has none.
func (r *reader) withoutOperators(v value) bool {
	none := r.settled && len(r.byName) == 0
	if none {
		r.errorf(v.named(), "the policy has no operators, who decide: allowed is with operators: {NAME: {user: LOGIN, may: [record, approve]}}")
	}
	return none
}

// entitled lists the operators with a right, sorted by name.
func (r *reader) entitled(right policy.Right) []*policy.Operator {
	return slices.DeleteFunc(slices.Clone(r.policy.Operators), func(o *policy.Operator) bool { return !o.May(right) })
}

// deciders reads a list of operators with a right, sorted by name. Without a list it gives every
// operator with the right. known is false after a mistake in the list or in the operators.
func (r *reader) deciders(v value, right policy.Right) (some []*policy.Operator, known bool) {
	if !v.present() {
		return r.entitled(right), r.settled
	}
	before := r.told()
	entitled := oneOf(operatorNames(r.entitled(right)))
	some = references(&r.decoder, v, "operator", r.byName, func(item value, o *policy.Operator) bool {
		if !r.settled || o.May(right) {
			return true
		}
		r.errorf(item, "%s may not %s: allowed is an operator with may: [%s], here %s", shown(o.Name), string(right), string(right), entitled)
		return false
	})
	slices.SortFunc(some, func(a, b *policy.Operator) int { return strings.Compare(a.Name, b.Name) })
	return some, r.settled && r.told() == before && v.readable()
}

func operatorNames(all []*policy.Operator) []string {
	names := make([]string, len(all))
	for i, o := range all {
		names[i] = shown(o.Name)
	}
	return names
}

// checkRecorders reports a policy that has on_request and no operator with the right to record.
func (r *reader) checkRecorders(v value) {
	asked := slices.ContainsFunc(r.policy.Vendors, func(v *policy.Vendor) bool { return v.OnRequest != nil })
	if asked && r.settled && len(r.byName) > 0 && len(r.entitled(policy.MayRecord)) == 0 {
		r.errorf(v.named(), "nobody may record a request of on_request: at least one operator needs may: [record]")
	}
}
