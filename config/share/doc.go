// Package share makes of a policy what can be shown to others, and of that a template for a policy.
//
// It walks the values of the policy and knows a rule for each field; a field without a rule is left out.
// Comments, names, tickets, contacts, keys, dates and addresses do not come along. Before anything is given
// out, a guard looks for words of the policy in it.
package share
