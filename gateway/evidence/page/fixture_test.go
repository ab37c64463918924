package page

import (
	"strings"
	"time"

	"kidoban/gateway/evidence"
)

var tokyo = Zone("Asia/Tokyo")

// on is a time of November 2026.
func on(day, hour, minute int) time.Time { return time.Date(2026, 11, day, hour, minute, 0, 0, tokyo) }

func at(day, hour, minute int) *time.Time { t := on(day, hour, minute); return &t }

func bytesOf(n int64) *int64 { return &n }

func use(target, address, service string, connections, received, transmitted int64) evidence.ReportUse {
	return evidence.ReportUse{Target: target, Address: address, Service: service, Connections: connections, ReceivedBytes: received, TransmittedBytes: transmitted, First: on(5, 10, 2), Last: on(5, 11, 40)}
}

// sample is a month with one of everything.
func sample() *evidence.Report {
	digest := strings.Repeat("5f3ac1e09b7d4286", 4)
	sato, tanaka := &evidence.ReportSigned{Entry: 1310, At: on(6, 9, 12), By: "sato"}, &evidence.ReportSigned{Entry: 1311, At: on(9, 13, 5), By: "sato", For: "田中 誠", Same: true}
	return &evidence.Report{
		Version: 1, Month: "2026-11", Site: "木戸市民病院", Timezone: "Asia/Tokyo", Origin: "kidoban/kido-hospital/1a2b3c4d",
		Entries: evidence.Range{From: 1180, To: 2263}, Size: 2301, Verified: true, Witnesses: []string{"prefecture.example/w1"}, AsOf: on(30, 23, 58),
		Checkpoint: "kidoban/kido-hospital/1a2b3c4d\n2301\nq7uDqGJ0s0y6Gx3bK0jvQx0O2u2m1p6f0b3yQ1v7R2k=\n\n— kidoban/kido-hospital/1a2b3c4d Gis8TQ5nR2b0u2eYg1x8m3oQh0bq8pVh7o0w5N6kJmYt1cXr4d7z9a2s5f8h1j4l7q0e3u6i9o2p5w8y1t4r7c0v3b6n=\n",
		Policies:   []evidence.ReportPolicy{{Entry: 1102, From: time.Date(2026, 10, 14, 9, 30, 0, 0, tokyo), Digest: digest}, {Entry: 1650, From: on(12, 17, 41), Digest: strings.Repeat("c0ffee1234567890", 4)}},
		Vendors: []evidence.VendorSummary{
			{Vendor: "medixs", Name: "メディクス株式会社", Requested: 4, Approved: 3, Denied: 1, Opened: 5, Used: 4, Unused: 1, Sessions: 4, Refused: 3, OpenSeconds: 45000, UsedSeconds: 18240, Digest: digest, Checked: sato, Confirmed: tanaka},
			{Vendor: "hoshu", Name: "ほしゅサービス有限会社", Under: "medixs", Requested: 1, Approved: 1, Opened: 1, Used: 1, Sessions: 1, OpenSeconds: 7200, UsedSeconds: 3000, Digest: digest, Checked: sato, Stale: true},
			{Vendor: "kyushoku", Name: "木戸給食センター", Opened: 20, Used: 1, Unused: 19, Sessions: 1, Refused: 12, OpenSeconds: 1296000, UsedSeconds: 3660, Plain: true, Digest: digest},
		},
		Sessions: []evidence.ReportSession{
			{ID: "s-1188", Vendor: "medixs", VendorName: "メディクス株式会社", Engineer: "yamada", EngineerName: "山田 太郎", Section: "医療情報課", Source: "203.0.113.10", SourcePort: 51820, OpenedAt: on(5, 10, 1), ClosedAt: at(5, 11, 42), Ended: "idle",
				Grants: []string{"r-7f2c"}, Request: "r-7f2c", RequestedAt: at(4, 16, 20), RequestedBy: "sato", Ticket: "MNT-2291", Purpose: "電子カルテの月例パッチ適用", ApprovedBy: "suzuki", ApprovedAt: at(4, 17, 3), PlannedFrom: at(5, 10, 0), PlannedUntil: at(5, 12, 0),
				ReceivedBytes: bytesOf(48_133_120), TransmittedBytes: bytesOf(3_145_728), Used: []evidence.ReportUse{use("ehr-app", "10.10.1.11", "tcp/443", 18, 45_000_000, 2_400_000), use("ehr-db", "10.10.1.12", "tcp/5432", 2, 2_000_000, 500_000)},
				Counted: true, Complete: true, Refused: 2, Checked: sato, Confirmed: tanaka, Entries: evidence.Range{From: 1188, To: 1201}, Digest: digest,
				Work: &evidence.ReportWork{Entry: 1260, At: on(5, 15, 0), By: "sato", From: at(5, 10, 0), Until: at(5, 11, 45), PersonalData: "no", Files: "パッチ 1 件、無害化済み（USB 検疫端末）", Present: "佐藤", Text: "月例パッチ 2026-11 を適用し、再起動後の動作を確認"}},
			{ID: "s-1402", Vendor: "medixs", VendorName: "メディクス株式会社", Engineer: "takahashi", EngineerName: "高橋 花子", Section: "医療情報課", Source: "203.0.113.11", SourcePort: 40112, OpenedAt: on(9, 22, 30), ClosedAt: at(10, 1, 10), Ended: "window_closed",
				Grants: []string{"medixs-night"}, ApprovedBy: "情報政策課長", PlannedFrom: at(9, 22, 0), PlannedUntil: at(10, 1, 10), ReceivedBytes: bytesOf(1_048_576), TransmittedBytes: bytesOf(734_003_200), Counted: true, Complete: false,
				Used:    []evidence.ReportUse{use("pacs", "10.10.2.20", "tcp/104", 40, 500_000, 700_000_000), {Others: 3, Connections: 7, ReceivedBytes: 5000, TransmittedBytes: 9000, First: on(9, 23, 0), Last: on(9, 23, 30)}},
				Checked: sato, Entries: evidence.Range{From: 1402, To: 1466}, Digest: digest,
				Work: &evidence.ReportWork{Entry: 1500, At: on(11, 9, 0), By: "sato", PersonalData: "yes", Text: "画像サーバーの障害調査。患者 ID 3 件の画像を表示（識別情報は持ち出していない）"}},
			{ID: "s-1700", Vendor: "medixs", VendorName: "メディクス株式会社", Engineer: "yamada", EngineerName: "山田 太郎", Section: "医療情報課", Source: "203.0.113.10", OpenedAt: on(13, 10, 0), LastHeard: at(13, 10, 45), Ended: "crashed",
				Grants: []string{"medixs-weekly"}, ApprovedBy: "情報政策課長", PlannedFrom: at(13, 10, 0), PlannedUntil: at(13, 12, 0), Used: []evidence.ReportUse{}, Entries: evidence.Range{From: 1700, To: 1712}, Digest: digest},
			{ID: "s-2260", Vendor: "medixs", VendorName: "メディクス株式会社", Engineer: "yamada", EngineerName: "山田 太郎", Section: "医療情報課", Source: "2001:db8:7::10", SourcePort: 51820, Line: "internet", OpenedAt: on(30, 23, 20), Grants: []string{"r-9d01"}, Request: "r-9d01",
				RequestedAt: at(30, 23, 10), RequestedBy: "sato", Purpose: "緊急: 受付端末からログインできない", ApprovedBy: "sato", ApprovedAt: at(30, 23, 11), PlannedFrom: at(30, 23, 11), PlannedUntil: &[]time.Time{time.Date(2026, 12, 1, 3, 11, 0, 0, tokyo)}[0],
				ReceivedBytes: bytesOf(0), TransmittedBytes: bytesOf(0), CountedAt: at(30, 23, 45), Counted: true, Complete: true, Used: []evidence.ReportUse{}, Entries: evidence.Range{From: 2260, To: 2260}, Digest: digest},
			{ID: "s-1900", Vendor: "hoshu", VendorName: "ほしゅサービス有限会社", Engineer: "ito", EngineerName: "伊藤 次郎", Section: "総務課", Source: "198.51.100.7", SourcePort: 33000, OpenedAt: on(18, 14, 5), ClosedAt: at(18, 14, 55), Ended: "vendor_shut",
				Grants: []string{"r-8a10"}, Request: "r-8a10", RequestedAt: at(17, 9, 0), RequestedBy: "kobayashi", Purpose: "空調監視盤の設定変更", ApprovedBy: "suzuki, sato", ApprovedAt: at(17, 11, 30), PlannedFrom: at(18, 14, 0), PlannedUntil: at(18, 16, 0),
				ReceivedBytes: bytesOf(220_000), TransmittedBytes: bytesOf(180_000), Counted: false, Used: []evidence.ReportUse{}, Checked: sato, Stale: true, Entries: evidence.Range{From: 1900, To: 1911}, Digest: digest},
			{ID: "s-1950", Vendor: "kyushoku", VendorName: "木戸給食センター", Engineer: "host-172-20-8-5", EngineerName: "172.20.8.5", Plain: true, Section: "栄養管理課", Source: "172.20.8.5", Line: "kyushoku", OpenedAt: on(19, 9, 0), ClosedAt: at(19, 10, 1), Ended: "window_closed",
				Grants: []string{"kyushoku-order"}, ApprovedBy: "情報政策課長", PlannedFrom: at(19, 9, 0), PlannedUntil: at(19, 17, 0), Used: []evidence.ReportUse{use("meal-order", "10.10.5.5", "tcp/8443", 12, 80_000, 1_200_000)}, Counted: true, Complete: true, Entries: evidence.Range{From: 1950, To: 1958}, Digest: digest},
		},
		Unused: []evidence.ReportUnused{
			{Grant: "r-7aa0", Vendor: "medixs", VendorName: "メディクス株式会社", Engineer: "takahashi", EngineerName: "高橋 花子", Section: "医療情報課", Request: "r-7aa0", Ticket: "MNT-2302", ApprovedBy: "suzuki", From: on(20, 13, 0), Until: on(20, 15, 0), ClosedAt: at(20, 15, 0), Reason: "window_closed",
				Targets: []string{"ehr-app 10.10.1.11 tcp/443"}, Entries: evidence.Range{From: 1990, To: 1995}},
			{Grant: "kyushoku/host-172-20-8-6/order@20261120T000000Z", Vendor: "kyushoku", VendorName: "木戸給食センター", Engineer: "host-172-20-8-6", EngineerName: "172.20.8.6", Plain: true, Section: "栄養管理課",
				ApprovedBy: "情報政策課長", From: on(20, 9, 0), Until: on(20, 17, 0), ClosedAt: at(20, 11, 0), Reason: "engineer_shut", Targets: []string{"meal-order 10.10.5.5 tcp/8443"}, Entries: evidence.Range{From: 1980, To: 1989}},
		},
		Refused: []evidence.ReportRefused{
			{Vendor: "medixs", Engineer: "yamada", Source: "198.51.100.99", Reason: "wrong_source", Count: 3, First: on(6, 8, 0), Last: on(6, 8, 2), Entries: []int64{1220, 1221, 1223}},
			{Source: "192.0.2.66", Reason: "unlisted_source", Count: 4096, First: on(1, 0, 0), Last: on(30, 23, 50), Entries: []int64{1181, 1187, 1190}},
			{Vendor: "kyushoku", Engineer: "host-172-20-8-5", Plain: true, Source: "172.20.8.5", Target: "10.10.1.12:5432/tcp", Reason: "unlisted_target", Count: 12, First: on(19, 9, 10), Last: on(19, 9, 11), Entries: []int64{1953}},
		},
		Mismatches: []evidence.Mismatch{
			{Kind: "m02", Entries: []int64{1990, 1995}, Vendor: "medixs", Grant: "r-7aa0", Text: "nobody came",
				Code: "mismatch_m02", Args: map[string]string{"window": "r-7aa0", "from": "2026-11-20 13:00", "until": "2026-11-20 15:00"}, State: "explained", By: "sato", At: at(21, 9, 0), Note: "業者都合で中止（電話連絡あり）"},
			{Kind: "m03", Entries: []int64{1712}, Vendor: "medixs", Session: "s-1700", Text: "no work report", State: "open",
				Code: "mismatch_m03", Args: map[string]string{"engineer": "medixs/yamada", "session": "s-1700", "due": "2026-11-16 11:02"}},
			{Kind: "m09", Entries: []int64{1953}, Vendor: "kyushoku", Text: "refused", State: "open",
				Code: "mismatch_m09_host", Args: map[string]string{"engineer": "kyushoku/host-172-20-8-5", "reason": "unlisted_target", "count": "12"}},
			{Kind: "m12", Entries: []int64{1700, 1712}, Vendor: "medixs", Session: "s-1700", Text: "the session crashed", State: "open",
				Code: "mismatch_m12", Args: map[string]string{"engineer": "medixs/yamada", "session": "s-1700", "reason": "crashed", "at": "2026-11-13 11:02"}},
			{Kind: "m14", Entries: []int64{1450}, Vendor: "medixs", Session: "s-1402", Text: "the clock was set", State: "open",
				Code: "mismatch_m14", Args: map[string]string{"engineer": "medixs/takahashi", "session": "s-1402", "kind": "clock_step", "at": "2026-11-09 23:40"}},
		},
		Digest: digest,
	}
}
