package check

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// TestRestricted asks the checks of Kubernetes' own admission about each pod. The namespace
// enforces them.
func TestRestricted(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	each(t, func(t *testing.T, m manifests) {
		if got := m.namespace.Labels[api.EnforceLevelLabel]; got != string(api.LevelRestricted) {
			t.Errorf("the namespace enforces %q", got)
		}
		for name, w := range m.workloads {
			results := evaluator.EvaluatePod(restricted, &w.pod.ObjectMeta, &w.pod.Spec)
			if len(results) == 0 {
				t.Errorf("nothing was checked of %s", name)
			}
			for _, result := range results {
				if !result.Allowed {
					t.Errorf("%s: %s: %s", name, result.ForbiddenReason, result.ForbiddenDetail)
				}
			}
			pod, c := w.pod.Spec, w.container()
			if !*c.SecurityContext.ReadOnlyRootFilesystem || *pod.SecurityContext.RunAsUser != 65532 ||
				*pod.AutomountServiceAccountToken || *pod.EnableServiceLinks {
				t.Errorf("%s has more than the image needs", name)
			}
			// With the other policy a start would open the signing keys to the group.
			if p := pod.SecurityContext.FSGroupChangePolicy; *pod.SecurityContext.FSGroup != 65532 ||
				*p != corev1.FSGroupChangeOnRootMismatch {
				t.Errorf("%s: files belong to the group %d, by the policy %s", name, *pod.SecurityContext.FSGroup, *p)
			}
		}
	})
}

// TestResources checks that each pod has requests and limits, and that Go collects garbage before
// the kernel kills.
func TestResources(t *testing.T) {
	each(t, func(t *testing.T, m manifests) {
		for name, w := range m.workloads {
			r := w.container().Resources
			for _, what := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
				request, limit := r.Requests[what], r.Limits[what]
				if request.IsZero() || limit.IsZero() || request.Cmp(limit) > 0 {
					t.Errorf("%s requests %s of %s, and its limit is %s", name, &request, what, &limit)
				}
			}
			if r.Limits.Memory().Value() != 1<<30 || environment(w)["GOMEMLIMIT"] != "900MiB" {
				t.Errorf("%s: the limit is %s, and Go knows %q", name, r.Limits.Memory(), environment(w)["GOMEMLIMIT"])
			}
		}
	})
}

// environment returns the variables of a pod that have a value in the manifest.
func environment(w workload) map[string]string {
	all := map[string]string{}
	for _, e := range w.container().Env {
		all[e.Name] = e.Value
	}
	return all
}

// TestProbes checks that liveness asks for nothing that a server lacks while it catches up, and
// readiness for everything.
func TestProbes(t *testing.T) {
	each(t, func(t *testing.T, m manifests) {
		for _, name := range services {
			c := m.workloads[name].container()
			live, ready := c.LivenessProbe, c.ReadinessProbe
			if live.HTTPGet == nil || live.HTTPGet.Path != "/healthz" || live.HTTPGet.Port != intstr.FromString("ops") {
				t.Errorf("%s is alive if %+v", name, live.ProbeHandler)
			}
			if ready.HTTPGet == nil || ready.HTTPGet.Path != "/readyz" || ready.HTTPGet.Port != intstr.FromString("ops") {
				t.Errorf("%s is ready if %+v", name, ready.ProbeHandler)
			}
			// /readyz takes a second when a check does not answer.
			if ready.TimeoutSeconds < 2 || live.TimeoutSeconds < 2 {
				t.Errorf("%s has %d s to say whether it is ready", name, ready.TimeoutSeconds)
			}
			pause := c.Lifecycle.PreStop.Sleep.Seconds
			// A process stops within two seconds of SIGTERM.
			if pause < 1 || *m.workloads[name].pod.Spec.TerminationGracePeriodSeconds < pause+2 {
				t.Errorf("%s gets SIGTERM after %d s", name, pause)
			}
		}
		c := m.workloads["nats"].container()
		socket := func(p *corev1.Probe) bool {
			return p.TCPSocket != nil && p.TCPSocket.Port == intstr.FromString("nats")
		}
		if !socket(c.LivenessProbe) || !socket(c.StartupProbe) {
			t.Error("a NATS server that catches up may be restarted")
		}
		if p := c.StartupProbe; p.PeriodSeconds*p.FailureThreshold < 3600 {
			t.Errorf("a NATS server has %d s to read its disk", p.PeriodSeconds*p.FailureThreshold)
		}
		if check := c.ReadinessProbe.Exec; check == nil ||
			strings.Join(check.Command, " ") != "/pillion health --ops-addr 127.0.0.1:8222" {
			t.Errorf("a NATS server is ready if %+v", c.ReadinessProbe.ProbeHandler)
		}
	})
}

// TestSpread checks that the instances of a server are counted apart from those of others, and that
// in the overlay ha they never share a node.
func TestSpread(t *testing.T) {
	for overlay, want := range map[string]corev1.UnsatisfiableConstraintAction{
		"ha": corev1.DoNotSchedule, "demo": corev1.ScheduleAnyway,
	} {
		m := render(t, overlay)
		for _, name := range append([]string{"nats"}, services...) {
			spread := m.workloads[name].pod.Spec.TopologySpreadConstraints
			if len(spread) != 2 || spread[0].TopologyKey != "kubernetes.io/hostname" || spread[0].MaxSkew != 1 ||
				spread[0].WhenUnsatisfiable != want || spread[1].TopologyKey != "topology.kubernetes.io/zone" {
				t.Errorf("%s: %s is spread by %+v", overlay, name, spread)
				continue
			}
			for _, s := range spread {
				if !slices.Contains(s.MatchLabelKeys, nameLabel) ||
					!matches(t, s.LabelSelector, m.workloads[name].pod.Labels) {
					t.Errorf("%s: %s is spread among %v, %v", overlay, name, s.LabelSelector, s.MatchLabelKeys)
				}
			}
		}
	}
}
