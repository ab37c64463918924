package catalogue

import (
	"time"

	"kidoban/gateway/view"
)

// checks are the checks by machine, by the names that the catalogue has for them. facts tell a person
// what the record says.
var (
	checks = map[string]func(*look) Machine{
		"sources": (*look).checkSources, "default-deny": (*look).checkDefaultDeny, "windows": (*look).checkWindows, "approvals": (*look).checkApprovals,
		"emergencies": (*look).checkEmergencies, "disconnected": (*look).checkDisconnected, "standing": (*look).checkStanding,
		"destinations": (*look).checkDestinations, "persons": (*look).checkPersons, "dormant": (*look).checkDormant, "encryption": (*look).checkEncryption,
		"zones": (*look).checkZones, "contracts": (*look).checkContracts, "consents": (*look).checkConsents,

		"recorded": (*look).checkRecorded, "reviewed": (*look).checkReviewed, "verified": (*look).checkVerified, "copied": (*look).checkCopied,
		"clock": (*look).checkClock, "retention": (*look).checkRetention, "listeners": (*look).checkListeners, "drift": (*look).checkDrift,
		"exercised": (*look).checkExercised, "reconciled": (*look).checkReconciled, "kill-switch": (*look).checkKillSwitch,
	}
	facts = map[string]func(*look) []view.Message{
		"requested-ahead": (*look).requestedAhead, "inventory": (*look).inventory, "factors": (*look).factors, "version": (*look).version, "files": (*look).files,
		"coverage": (*look).coverage, "vendor-answers": (*look).vendorAnswers, "certificates": (*look).certificates,
	}
)

// Bounds that the checks hold sites to.
const (
	widestBits4, widestBits6 = 24, 64         // of a target; a wider prefix is "any"
	mostPorts                = 1024           // of a service
	longestOpen              = 72 * time.Hour // in one piece
	dormantAfter             = 90 * 24 * time.Hour
	copyAge                  = 7 * 24 * time.Hour
)
