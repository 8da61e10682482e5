package check

import (
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

const root = "../../.."

// programs is the folder for the built programs.
var programs string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "pillion-programs-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	programs = dir
	return m.Run()
}

// build builds the programs of the images as `make build` does.
var build = sync.OnceValue(func() error {
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", programs,
		"./cmd/authsvc", "./cmd/usersvc", "./cmd/ridersvc", "./cmd/pillion")
	cmd.Dir, cmd.Env, cmd.Stderr = root, append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
	return cmd.Run()
})

// help returns what a command says about its settings.
func help(t *testing.T, words ...string) string {
	t.Helper()
	if err := build(); err != nil {
		t.Fatal("build the programs: ", err)
	}
	out, err := exec.Command(filepath.Join(programs, words[0]), append(words[1:], "--help")...).Output()
	if err != nil {
		t.Fatalf("%v --help: %v", words, err)
	}
	return string(out)
}

// command returns the program of a pod's image, and the command that it runs.
func (w workload) command(t *testing.T) (words []string) {
	t.Helper()
	image, tag, _ := strings.Cut(w.container().Image, ":")
	if tag == "" || tag == "latest" {
		t.Errorf("%s runs %s, whatever version that is", w.name, w.container().Image)
	}
	words = []string{path.Base(image)}
	for _, arg := range w.container().Args {
		if strings.HasPrefix(arg, "-") {
			break
		}
		words = append(words, arg)
	}
	return words
}

// TestSettings checks that each flag and variable in the manifests is one of the program that gets
// it.
func TestSettings(t *testing.T) {
	each(t, func(t *testing.T, m manifests) {
		settings := 0
		for name, w := range m.workloads {
			if name == "nats" {
				continue // its settings are in files
			}
			words := w.command(t)
			says, c := help(t, words...), w.container()
			for _, arg := range c.Args {
				if strings.HasPrefix(arg, "--") && !regexp.MustCompile(`(?m)^ +`+arg+`\b`).MatchString(says) {
					t.Errorf("%v has no flag %s", words, arg)
				}
			}
			names := []string{}
			for _, e := range c.Env {
				names = append(names, e.Name)
			}
			for _, from := range c.EnvFrom {
				values, ok := m.maps[from.ConfigMapRef.Name]
				if !ok {
					t.Errorf("%s takes settings from %s, which is not there", name, from.ConfigMapRef.Name)
				}
				for key := range values.Data {
					names = append(names, key)
				}
			}
			for _, e := range names {
				if e == "GOMEMLIMIT" { // Go's own
					continue
				}
				settings++
				if !regexp.MustCompile(`\$` + e + `\b`).MatchString(says) {
					t.Errorf("%v has no setting %s", words, e)
				}
			}
		}
		if settings < 15 {
			t.Errorf("found %d settings, want at least 15", settings)
		}
		probe := m.workloads["nats"].container().ReadinessProbe.Exec.Command
		if !strings.Contains(help(t, "pillion", probe[1]), probe[2]+"=") {
			t.Errorf("%v is not a command", probe)
		}
	})
}

// image returns the variables of an image, by the Dockerfile.
func image(t *testing.T, target string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(root + "/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	_, stage, ok := strings.Cut(string(text), " AS "+target+"\n")
	if !ok {
		t.Fatalf("the Dockerfile has no image %s", target)
	}
	stage, _, _ = strings.Cut(stage, "\nFROM ")
	variables := map[string]string{}
	for _, line := range regexp.MustCompile(`(?m)^ENV (.*)$`).FindAllStringSubmatch(stage, -1) {
		for pair := range strings.FieldsSeq(line[1]) {
			name, value, _ := strings.Cut(pair, "=")
			variables[name] = value
		}
	}
	return variables
}

// TestMounts checks that each volume is mounted and is there, that each file and folder in a
// setting is in one, and that the ports are those of the image. Only data can be written to.
func TestMounts(t *testing.T) {
	secrets := documented(t)
	each(t, func(t *testing.T, m manifests) {
		files := 0
		for name, w := range m.workloads {
			c, sources := w.container(), map[string]map[string]bool{}
			for _, v := range w.pod.Spec.Volumes {
				sources[v.Name] = m.files(t, v, secrets)
			}
			for _, claim := range m.nats.Spec.VolumeClaimTemplates {
				if name == "nats" {
					sources[claim.Name] = nil
				}
			}
			at := map[string]map[string]bool{}
			for _, mount := range c.VolumeMounts {
				contents, ok := sources[mount.Name]
				if !ok {
					t.Errorf("%s mounts %s, which it does not have", name, mount.Name)
				}
				delete(sources, mount.Name)
				at[mount.MountPath] = contents
				if mount.ReadOnly == (mount.MountPath == "/data") {
					t.Errorf("%s can write to %s: %v", name, mount.MountPath, !mount.ReadOnly)
				}
			}
			if len(sources) > 0 {
				t.Errorf("%s has volumes that it does not mount: %v", name, sources)
			}
			if name == "nats" {
				continue
			}
			settings := image(t, w.command(t)[0])
			if name == "provision" { // the image is for the whole system
				settings = map[string]string{}
			}
			for _, p := range c.Ports {
				if !slices.Contains(slices.Collect(values(settings)), fmt.Sprintf("0.0.0.0:%d", p.ContainerPort)) {
					t.Errorf("%s does not listen on %s", name, p.Name)
				}
			}
			for _, from := range c.EnvFrom {
				for key, value := range m.maps[from.ConfigMapRef.Name].Data {
					settings[key] = value
				}
			}
			for key, value := range environment(w) {
				settings[key] = value
			}
			for key, value := range settings {
				if !strings.HasPrefix(value, "/") {
					continue
				}
				files++
				folder, ok := at[value]
				if ok {
					continue
				}
				if folder, ok = at[path.Dir(value)]; !ok || folder != nil && !folder[path.Base(value)] {
					t.Errorf("%s: %s is %s, which is not there", name, key, value)
				}
			}
		}
		if files < 15 {
			t.Errorf("found %d files in settings, want at least 15", files)
		}
	})
}

func values(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}

// files returns the names of the files in a volume, or nil if the pods write them.
func (m manifests) files(t *testing.T, v corev1.Volume, secrets map[string]map[string]bool) map[string]bool {
	t.Helper()
	switch {
	case v.Secret != nil:
		all, ok := secrets[v.Secret.SecretName]
		if !ok {
			t.Errorf("nothing makes the Secret %s", v.Secret.SecretName)
		}
		return all
	case v.PersistentVolumeClaim != nil:
		if _, ok := m.claims[v.PersistentVolumeClaim.ClaimName]; !ok {
			t.Errorf("there is no claim %s", v.PersistentVolumeClaim.ClaimName)
		}
		return nil
	}
	all := map[string]bool{}
	for _, source := range v.Projected.Sources {
		if source.ConfigMap != nil {
			for name := range m.maps[source.ConfigMap.Name].Data {
				all[name] = true
			}
			continue
		}
		for _, item := range source.Secret.Items {
			if !secrets[source.Secret.Name][item.Key] {
				t.Errorf("nothing makes %s in the Secret %s", item.Key, source.Secret.Name)
			}
			all[item.Path] = true
		}
	}
	// what the files of NATS include and name
	for _, needed := range []string{"cluster.conf", "tls.conf", "access.conf", "keys/keys.conf", "keys/nats.crt",
		"keys/nats.key", "keys/ca.crt"} {
		if !all[needed] {
			t.Errorf("NATS lacks %s", needed)
		}
	}
	return all
}

// documented runs the commands of docs/operate-kubernetes.md that make keys, certificates and
// Secrets, and returns the files of each Secret. kubectl only prints what it would send.
func documented(t *testing.T) map[string]map[string]bool {
	t.Helper()
	if _, err := exec.LookPath("kubectl"); err != nil {
		t.Skip("kubectl is not here (Debian: kubernetes-client), and what the Secrets have was not checked")
	}
	page, err := os.ReadFile(root + "/docs/operate-kubernetes.md")
	if err != nil {
		t.Fatal(err)
	}
	commands := regexp.MustCompile("(?s)\n```sh\n(.*?)```\n").FindSubmatch(page)
	if commands == nil {
		t.Fatal("the page has no commands")
	}
	if err := build(); err != nil {
		t.Fatal("build the programs: ", err)
	}
	dir := t.TempDir()
	if err := os.Symlink(programs, filepath.Join(dir, "bin")); err != nil {
		t.Fatal(err)
	}
	const offline = `set -eu
kubectl() {
  case "$*" in
  *" create "*) echo --- && command kubectl "$@" --dry-run=client -o yaml ;;
  *) test -f "$REPO/${3:?}" ;;
  esac
}
`
	cmd := exec.Command("sh", "-c", offline+string(commands[1]))
	repo, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Dir, cmd.Env, cmd.Stderr = dir, append(os.Environ(), "KUBECONFIG=/dev/null", "REPO="+repo), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	secrets := map[string]map[string]bool{}
	for _, document := range strings.Split(string(out), "---\n")[1:] {
		var s corev1.Secret
		if err := yaml.UnmarshalStrict([]byte(document), &s); err != nil || s.Namespace != "pillion" {
			t.Fatalf("%v\n%s", err, document)
		}
		secrets[s.Name] = map[string]bool{}
		for name := range s.Data {
			secrets[s.Name][name] = true
			if name == "ca.key" || strings.HasSuffix(name, ".key") && s.Name == "ca" {
				t.Errorf("the Secret %s has the key of the CA", s.Name)
			}
		}
	}
	for _, who := range []string{"key-authsvc", "key-usersvc", "key-ridersvc", "key-operator"} {
		if !secrets[who]["trust.pub"] || secrets[who]["trust.key"] != (who == "key-authsvc") {
			t.Errorf("the trust key is in the wrong Secrets: %s has %v", who, secrets[who])
		}
	}
	return secrets
}
