package view

import (
	"slices"
	"time"

	"kidoban/gateway/policy"
)

// Bounds of the messages about a new policy. JSON has everything.
const (
	changesMost = 60 // changes
	movedMost   = 20 // engineers with access that closes, or opens
	valuesMost  = 6  // values of a field, and windows
)

// Changes tells of the changes between two policies. If there are many, a vendor that
// was added or removed stands for its engineers and windows.
func Changes(changes []policy.Change) (all []Message) {
	told := changes
	folded := map[string]map[string]int{} // by kind and vendor: how many of each thing
	if len(changes) > changesMost {
		for _, c := range changes {
			if c.Thing == "vendor" && c.Kind != policy.Changed {
				folded[c.Kind+c.Name] = map[string]int{}
			}
		}
		told = slices.DeleteFunc(slices.Clone(changes), func(c policy.Change) bool {
			if c.Vendor != "" && folded[c.Kind+c.Vendor] != nil {
				folded[c.Kind+c.Vendor][c.Thing]++
				return true
			}
			return false
		})
	}
	for _, c := range told[:min(len(told), changesMost)] {
		m := changed(c)
		if n := folded[c.Kind+c.Name]; c.Thing == "vendor" && n != nil {
			m = Say("change_vendor", Args{"change": m, "engineers": n["engineer"], "windows": n["window"]})
		}
		all = append(all, m)
	}
	if more := len(told) - len(all); more > 0 {
		all = append(all, Say("changes_more", Args{"count": more}))
	}
	return all
}

func changed(c policy.Change) Message {
	m := Say("change_"+Code(c.Kind), Args{"thing": Say("thing_"+Code(c.Thing), Args{"name": c.FullName()})})
	var fields []Message
	for _, f := range c.Fields {
		if c.Kind == policy.Removed {
			break // its name says enough
		}
		fields = append(fields, changedField(c.Kind, f))
	}
	if len(fields) > 0 {
		m = Say("change_fields", Args{"change": m, "fields": fields})
	}
	if len(c.Windows) > 0 {
		m = Say("change_used", Args{"change": m, "windows": Few(c.Windows, valuesMost)})
	}
	return m
}

func changedField(kind string, f policy.Field) Message {
	args := Args{"field": f.Name}
	was, is := len(f.Before) > 0, len(f.After) > 0
	if f.Name == policy.PresharedKey && was && is {
		return Say("field_replaced", Args{"field": f.Name})
	}
	code := Code("field_changed")
	if was {
		args["before"] = Few(f.Before, valuesMost)
	} else {
		code = "field_added"
	}
	if is {
		args["after"] = Few(f.After, valuesMost)
	} else {
		code = "field_removed"
	}
	if kind == policy.Added {
		code = "field_is"
	}
	return Say(code, args)
}

// Moved has a message with a code for each engineer: the access that closes or opens.
// zone is the site's.
func Moved(code Code, reach []policy.Reach, zone *time.Location) (all []Message) {
	for _, r := range reach[:min(len(reach), movedMost)] {
		var access []Message
		if len(r.Targets) > 0 {
			access = append(access, Say("access_targets", Args{"targets": Few(r.Targets, valuesMost)}))
		}
		if len(r.Sources) > 0 {
			access = append(access, Say("access_sources", Args{"sources": Few(r.Sources, valuesMost)}))
		}
		args := Args{"engineer": r.Engineer, "access": access}
		if code == "opened_now" || code == "would_open" {
			args["until"] = r.Until.In(zone).Format(Moment)
		}
		all = append(all, Say(code, args))
	}
	if more := len(reach) - len(all); more > 0 {
		all = append(all, Say("engineers_more", Args{"count": more}))
	}
	return all
}
