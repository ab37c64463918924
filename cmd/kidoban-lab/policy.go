package main

import (
	"encoding/base64"
	"fmt"
	"os"
	"strings"
	"time"
	_ "time/tzdata" // the site's zone, also on a machine without zone files
)

// zone is the site's zone. It has no daylight saving time.
var zone = func() *time.Location {
	z, err := time.LoadLocation("Asia/Tokyo")
	if err != nil {
		panic(err) // it is embedded
	}
	return z
}()

// support is an old window on two weekdays other than today.
func support(now time.Time) string {
	day := func(n int) string { return strings.ToLower(now.In(zone).AddDate(0, 0, n).Format("Mon")) }
	return fmt.Sprintf(`      support: {days: [%s, %s], from: "09:00", to: "17:30", targets: [ehr], valid: {from: %s, until: %s}, approved_by: Head of IT, ticket: CHG-101}
`, day(3), day(5), now.In(zone).AddDate(0, -1, 0).Format(time.DateOnly), now.In(zone).AddDate(1, 0, 0).Format(time.DateOnly))
}

// once is the window that the story is about.
func once(from, until time.Time) string {
	const local = "2006-01-02T15:04:05"
	return fmt.Sprintf(`      cutover: {once: {from: %s, until: %s}, targets: [ehr], approved_by: Head of IT, ticket: CHG-102}
`, from.In(zone).Format(local), until.In(zone).Format(local))
}

// writePolicy writes the policy file with these windows.
func (s *stage) writePolicy(windows ...string) {
	text := fmt.Sprintf(`version: 1
site: Kido Municipal Hospital
timezone: %s
tunnel:
  addresses: [10.99.0.1/24]
  endpoint: %v
%stargets:
  ehr: {address: %v, ports: [tcp/%d]}
vendors:
  medisys:
    name: Medisys Inc.
    sources: [%v]
    engineers:
      sato: {name: Sato, public_key: "%s", addresses: [%v]}
%s    windows:
%s`, zone, gatewayAddress, staff, listedService.Addr(), listedService.Port(), engineerAddress,
		base64.StdEncoding.EncodeToString(s.publicKey[:]), engineerInside, onRequest, strings.Join(windows, ""))
	if err := os.WriteFile(s.policyFile(), []byte(text), 0o640); err != nil {
		s.Fatalf("write the policy: %v", err)
	}
}
