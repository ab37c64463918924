package firewall

import (
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// tableName is the one table of this program; its family is inet.
const tableName = "kidoban"

// table stands for it where something in it is meant. AddTable takes flags,
// and has one of its own.
var table = &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}

// ownership keeps other programs' hands off the table, also between the death of
// its owner and the next one.
const ownership = nftables.TableFlagOwner | nftables.TableFlagPersist

// kernel is the set as nft takes it, for its elements. Without HasTimeout nft
// would leave out the timeouts of elements, which makes them permanent.
func (s *set) kernel() *nftables.Set {
	return &nftables.Set{Table: table, Name: s.name, KeyType: s.kind.datatype(), HasTimeout: true}
}

func (c *chain) kernel() *nftables.Chain {
	k := &nftables.Chain{Table: table, Name: c.name}
	if c.kind != "" {
		policy := c.policy()
		k.Type, k.Policy = nftables.ChainType(c.kind), &policy
		k.Hooknum, k.Priority = nftables.ChainHookRef(nftables.ChainHook(c.hook)), nftables.ChainPriorityRef(nftables.ChainPriority(c.priority))
	}
	return k
}

func (r rule) kernel(c *chain) *nftables.Rule {
	return &nftables.Rule{Table: table, Chain: c.kernel(), Exprs: r.expressions()}
}

// byHand reports whether nft cannot write the rules of a chain.
func (c *chain) byHand() bool {
	isPortRange := func(e expr.Any) bool { _, ok := e.(portRange); return ok }
	return slices.ContainsFunc(c.rules, func(r rule) bool { return slices.ContainsFunc(r.expressions(), isPortRange) })
}

// foundation is the part of a ruleset that one transaction of nft can hold,
// which makes no sets with limits: the chains, and of their rules those that
// look nothing up. It opens nothing that the whole does not.
func (r *Rules) foundation() *Rules {
	f := &Rules{}
	for _, c := range r.chains {
		base := *c
		base.rules = slices.DeleteFunc(slices.Clone(c.rules), rule.looksUp)
		f.chains = append(f.chains, &base)
	}
	return f
}

func (r rule) looksUp() bool {
	return slices.ContainsFunc(r.expressions(), func(e expr.Any) bool {
		switch e.(type) {
		case *expr.Lookup, *expr.Dynset:
			return true
		}
		return false
	})
}
