package dashboards

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

func readYAML(t *testing.T, name string, into any) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// What is mounted is there, and lies where Grafana and Prometheus look for it.
func TestTheTrialFitsTogether(t *testing.T) {
	var compose struct {
		Services map[string]struct {
			Volumes, Command []string
			Environment      map[string]string
		}
		Volumes map[string]any
	}
	readYAML(t, "compose.yaml", &compose)
	inside := map[string]string{} // path in a container -> path here
	for name, s := range compose.Services {
		for _, v := range s.Volumes {
			from, rest, _ := strings.Cut(v, ":")
			to, _, _ := strings.Cut(rest, ":")
			_, named := compose.Volumes[from]
			switch {
			case strings.HasPrefix(from, "./"):
				if _, err := os.Stat(from); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				inside[to] = from
			case !named && !strings.HasPrefix(from, "/"):
				t.Errorf("%s: the volume %s is not declared", name, from)
			}
		}
	}
	var providers struct {
		Providers []struct {
			FolderUID string `yaml:"folderUid"`
			Options   struct{ Path string }
		}
	}
	readYAML(t, "grafana/provisioning/dashboards/kidoban.yaml", &providers)
	files, err := generated()
	if err != nil {
		t.Fatal(err)
	}
	var mounted []string
	for _, p := range providers.Providers {
		for to, from := range inside {
			if to == p.Options.Path {
				found, err := filepath.Glob(filepath.Join(from, "*.json"))
				if err != nil {
					t.Fatal(err)
				}
				mounted = append(mounted, found...)
			} else if filepath.Dir(to) == p.Options.Path {
				mounted = append(mounted, filepath.Clean(from))
			}
		}
	}
	for name := range files {
		if !slices.Contains(mounted, name) {
			t.Errorf("Grafana does not find %s", name)
		}
	}
	if len(mounted) != len(files) {
		t.Errorf("Grafana finds %v", mounted)
	}
	if home := compose.Services["grafana"].Environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]; inside[home] == "" {
		t.Errorf("%s is not mounted", home)
	}
	var sources struct {
		Datasources []struct{ Type, URL string }
	}
	readYAML(t, "grafana/provisioning/datasources/kidoban.yaml", &sources)
	address, ok := strings.CutPrefix(sources.Datasources[0].URL, "http://")
	if !ok || !slices.Contains(compose.Services["prometheus"].Command, "--web.listen-address="+address) {
		t.Errorf("Grafana asks %s, where no Prometheus listens", sources.Datasources[0].URL)
	}
}

// TestPrometheusTakesItsConfiguration has promtool read it, with the rules.
func TestPrometheusTakesItsConfiguration(t *testing.T) {
	if out, err := exec.Command(program(t, "promtool", "prometheus"), "check", "config", "prometheus.yaml").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestAlertmanagerRoutesEveryAlert: Prometheus sends to the Alertmanager of the trial,
// and each severity of the rules has a receiver that exists and says what is wrong in
// both languages. A critical alert does not share its receiver with news.
func TestAlertmanagerRoutesEveryAlert(t *testing.T) {
	type route struct {
		Receiver string
		GroupBy  []string `yaml:"group_by"`
		Matchers []string
		Routes   []route
	}
	var file struct {
		Route     route
		Receivers []struct {
			Name   string
			Emails []struct{ To, Text string } `yaml:"email_configs"`
		}
	}
	readYAML(t, "alertmanager.yaml", &file)
	receivers := map[string]bool{}
	for _, r := range file.Receivers {
		receivers[r.Name] = len(r.Emails) > 0
		for _, e := range r.Emails {
			for _, part := range []string{".Annotations.summary }}", ".Annotations.summary_ja }}", ".Annotations.description }}", ".Annotations.description_ja }}", ".Annotations.runbook_url }}"} {
				if e.To == "" || !strings.Contains(e.Text, part) {
					t.Errorf("receiver %s: to %q, without %s", r.Name, e.To, part)
				}
			}
		}
	}
	if !slices.Equal(file.Route.GroupBy, []string{"instance"}) {
		t.Errorf("grouped by %v", file.Route.GroupBy)
	}
	to := map[string]string{}
	for _, r := range readRules(t) {
		if severity := r.Labels["severity"]; r.Alert != "" {
			to[severity] = file.Route.Receiver
			for _, x := range file.Route.Routes {
				if slices.Equal(x.Matchers, []string{`severity="` + severity + `"`}) {
					to[severity] = x.Receiver
				}
			}
			if !receivers[to[severity]] {
				t.Errorf("%s goes to %q, which is no receiver", r.Alert, to[severity])
			}
		}
	}
	if len(to) != 3 || to["critical"] == to["info"] || to["critical"] == to["warning"] {
		t.Errorf("severities go to %v", to)
	}
	var compose struct {
		Services map[string]struct{ Command []string }
	}
	readYAML(t, "compose.yaml", &compose)
	var prometheus struct {
		Alerting struct {
			Alertmanagers []struct {
				StaticConfigs []struct{ Targets []string } `yaml:"static_configs"`
			}
		}
	}
	readYAML(t, "prometheus.yaml", &prometheus)
	target := prometheus.Alerting.Alertmanagers[0].StaticConfigs[0].Targets[0]
	if !slices.Contains(compose.Services["alertmanager"].Command, "--web.listen-address="+target) {
		t.Errorf("Prometheus sends alerts to %s, where no Alertmanager listens", target)
	}
}

// TestAlertmanagerTakesItsConfiguration has Alertmanager's own tool read it.
func TestAlertmanagerTakesItsConfiguration(t *testing.T) {
	amtool := program(t, "amtool", "prometheus-alertmanager")
	if out, err := exec.Command(amtool, "check-config", "alertmanager.yaml").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
