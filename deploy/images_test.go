package deploy_test

import (
	"maps"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var composeFiles = []string{"../docker-compose.yml", "../docker-compose.cluster.yml"}

// writes are the volumes that containers may write to, by the name of the service without a number.
// Only keys and certs fill those that say who is trusted.
var writes = map[string][]string{
	"keys": {"key-authsvc:/apart/authsvc", "key-usersvc:/apart/usersvc", "key-ridersvc:/apart/ridersvc",
		"key-operator:/apart/operator", "key-nats:/apart/nats", "rides:/apart/rides", "services:/services"},
	"certs": {"ca:/apart/ca", "key-nats:/apart/nats", "key-authsvc:/apart/authsvc", "key-usersvc:/apart/usersvc",
		"key-ridersvc:/apart/ridersvc", "key-gateway:/apart/gateway", "ca-cert:/ca"},
	"nats":    {"nats:/data"},
	"authsvc": {"keys:/data"},
	"ops":     {"backups:/backups"},
}

// TestMounts checks that every mount of every container is read-only, except those of writes, and
// that only authsvc sees the folder by which it trusts the other services.
func TestMounts(t *testing.T) {
	mounts := regexp.MustCompile(`"([a-z-]+)(?:-\d)?:(/[a-z/-]+)(:ro)?"`)
	for _, file := range composeFiles {
		seen := 0
		for _, service := range sections(t, file) {
			for _, m := range mounts.FindAllStringSubmatch(service.text, -1) {
				seen++
				mount := m[1] + ":" + m[2]
				if may := slices.Contains(writes[service.name], mount); m[3] == "" && !may {
					t.Errorf("%s: %s can write to %s", file, service.name, mount)
				}
				if m[1] == "services" && service.name != "authsvc" && service.name != "keys" {
					t.Errorf("%s: %s sees the public keys of the services", file, service.name)
				}
			}
		}
		if seen < 20 {
			t.Errorf("%s: found %d mounts, want at least 20", file, seen)
		}
	}
}

type section struct{ name, text string }

// sections returns the services of a Compose file, by their names without numbers.
func sections(t *testing.T, file string) (all []section) {
	t.Helper()
	_, services, _ := strings.Cut(read(t, file), "\nservices:\n")
	services, _, _ = strings.Cut(services, "\nvolumes:\n")
	heads := regexp.MustCompile(`(?m)^  ([a-z]+)(?:-\d)?:.*$`).FindAllStringSubmatchIndex(services, -1)
	for i, h := range heads {
		end := len(services)
		if i+1 < len(heads) {
			end = heads[i+1][0]
		}
		all = append(all, section{services[h[2]:h[3]], services[h[1]:end]})
	}
	return all
}

// TestContext checks that an image is built of all the files that the compiler needs.
func TestContext(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if .Main}}{{$.Dir}}{{end}}{{end}}",
		"../cmd/authsvc", "../cmd/usersvc", "../cmd/ridersvc", "../cmd/pillion").Output()
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	needed := map[string]bool{"go.mod": true, "go.sum": true, "tools/go.mod": true, "tools/go.sum": true}
	for dir := range strings.FieldsSeq(string(out)) {
		name, err := filepath.Rel(root, dir)
		if err != nil {
			t.Fatal(err)
		}
		needed[strings.Split(filepath.ToSlash(name), "/")[0]] = true
	}
	if len(needed) < 12 {
		t.Fatalf("the programs need %v", slices.Sorted(maps.Keys(needed)))
	}
	listed := strings.Split(read(t, "../.dockerignore"), "\n")
	for name := range needed {
		if !slices.Contains(listed, "!"+name) {
			t.Errorf(".dockerignore does not list %s, which the programs need", name)
		}
	}
}

// TestSecretsStayOut checks that Git ignores keys and certificates wherever they are copied to, and
// that the pages copy files out of containers to data only.
func TestSecretsStayOut(t *testing.T) {
	for _, file := range []string{"operator.nk", "ca.crt", "docs/sys.nk", "nats.key", "data/ca.crt"} {
		if out, err := exec.Command("git", "-C", "..", "check-ignore", "-q", file).CombinedOutput(); err != nil {
			t.Errorf("Git does not ignore %s: %v %s", file, err, out)
		}
	}
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	copied, copies := regexp.MustCompile("(?m)docker(?: compose)? cp .*?\\S+:/\\S+ ([^\\s`]+)"), 0
	for _, page := range append(pages, "../README.md") {
		for _, m := range copied.FindAllStringSubmatch(read(t, page), -1) {
			copies++
			if !strings.HasPrefix(m[1], "data/") {
				t.Errorf("%s copies a file to %s, which is not in data: %s", page, m[1], m[0])
			}
		}
	}
	if copies == 0 {
		t.Error("no page copies anything out of a container")
	}
}
