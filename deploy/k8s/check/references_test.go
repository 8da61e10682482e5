package check

import (
	"maps"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func matches(t *testing.T, selector *metav1.LabelSelector, of map[string]string) bool {
	t.Helper()
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		t.Fatal(err)
	}
	return s.Matches(labels.Set(of))
}

// selected returns the names of the workloads with pods that a selector matches, sorted.
func (m manifests) selected(t *testing.T, selector *metav1.LabelSelector) (names []string) {
	t.Helper()
	for name, w := range m.workloads {
		if matches(t, selector, w.pod.Labels) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// port returns the number of a container's port.
func (m manifests) port(t *testing.T, of string, port intstr.IntOrString) int32 {
	t.Helper()
	for _, p := range m.workloads[of].container().Ports {
		if port.String() == p.Name || port.IntVal == p.ContainerPort {
			return p.ContainerPort
		}
	}
	t.Errorf("%s has no port %s", of, port.String())
	return 0
}

// TestServices checks that each Service leads to the pods and the port of its name, and each budget
// to one workload of which it lets one pod go.
func TestServices(t *testing.T) {
	each(t, func(t *testing.T, m manifests) {
		want := map[string]string{"nats": "nats", "nats-1": "nats", "nats-2": "nats", "nats-3": "nats",
			"authsvc": "authsvc", "usersvc": "usersvc", "ridersvc": "ridersvc"}
		for _, s := range m.services {
			selector := maps.Clone(s.Spec.Selector)
			delete(selector, "statefulset.kubernetes.io/pod-name") // the StatefulSet adds it
			of := m.selected(t, &metav1.LabelSelector{MatchLabels: selector})
			if !slices.Equal(of, []string{want[s.Name]}) {
				t.Errorf("the Service %s leads to %v", s.Name, of)
				continue
			}
			for _, p := range s.Spec.Ports {
				if m.port(t, of[0], p.TargetPort) != p.Port {
					t.Errorf("port %d of %s is %s", p.Port, s.Name, p.TargetPort.String())
				}
			}
			delete(want, s.Name)
		}
		if len(want) > 0 {
			t.Errorf("there are no Services for %v", want)
		}
		for name, w := range m.workloads {
			c := w.container()
			for _, p := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
				if p != nil && p.HTTPGet != nil {
					m.port(t, name, p.HTTPGet.Port)
				} else if p != nil && p.TCPSocket != nil {
					m.port(t, name, p.TCPSocket.Port)
				}
			}
		}
		var kept []string
		for _, b := range m.budgets {
			of := m.selected(t, b.Spec.Selector)
			if len(of) != 1 || b.Spec.MaxUnavailable.IntValue() != 1 {
				t.Errorf("the budget %s lets %s pods of %v go", b.Name, b.Spec.MaxUnavailable, of)
			}
			kept = append(kept, of...)
		}
		slices.Sort(kept)
		if want := []string{"authsvc", "nats", "ridersvc", "usersvc"}; !slices.Equal(kept, want) {
			t.Errorf("there are budgets for %v", kept)
		}
	})
}

// TestPolicies checks who may connect to whom: all policies together allow that and no more.
func TestPolicies(t *testing.T) {
	each(t, func(t *testing.T, m manifests) {
		programs := []string{"authsvc", "provision", "ridersvc", "usersvc"}
		for _, c := range []struct {
			from   []string
			labels map[string]string // of another namespace, in place of from
			to     string
			port   int32
		}{
			{programs, nil, "nats", 4222},
			{[]string{"nats"}, nil, "nats", 6222},
			{nil, nil, "nats", 8222},
			{nil, map[string]string{"pillion/clients": "true"}, "authsvc", 3000},
			{nil, map[string]string{"pillion/clients": "true"}, "usersvc", 3001},
			{nil, map[string]string{"pillion/clients": "true"}, "ridersvc", 3002},
			{nil, map[string]string{"pillion/metrics": "true"}, "authsvc", 3010},
			{nil, map[string]string{"pillion/metrics": "true"}, "usersvc", 3011},
			{nil, map[string]string{"pillion/metrics": "true"}, "ridersvc", 3012},
		} {
			for name := range m.workloads {
				out, in := m.leaves(t, name, c.to, c.port), m.enters(t, name, nil, c.to, c.port)
				if want := slices.Contains(c.from, name); (out && in) != want || in != want {
					t.Errorf("%s leaves for port %d of %s: %v, and enters: %v, want %v", name, c.port, c.to, out, in, want)
				}
			}
			for _, other := range []map[string]string{{}, {"pillion/clients": "true"}, {"pillion/metrics": "true"}} {
				if want := c.labels != nil && maps.Equal(other, c.labels); m.enters(t, "", other, c.to, c.port) != want {
					t.Errorf("a namespace with the labels %v enters port %d of %s: %v", other, c.port, c.to, !want)
				}
			}
		}
		if all := m.policies["nobody"].Spec; len(m.selected(t, &all.PodSelector)) != len(m.workloads) ||
			len(all.PolicyTypes) != 2 || all.Ingress != nil || all.Egress != nil {
			t.Errorf("what no policy allows is not forbidden: %+v", all)
		}
	})
}

// enters says whether a policy lets a pod of a workload, or of another namespace, into a port.
func (m manifests) enters(t *testing.T, from string, namespace map[string]string, to string, port int32) bool {
	t.Helper()
	for _, p := range m.policies {
		if !matches(t, &p.Spec.PodSelector, m.workloads[to].pod.Labels) {
			continue
		}
		for _, rule := range p.Spec.Ingress {
			for _, peer := range rule.From {
				is := namespace == nil && matches(t, peer.PodSelector, m.workloads[from].pod.Labels)
				if peer.NamespaceSelector != nil {
					is = namespace != nil && matches(t, peer.NamespaceSelector, namespace)
				}
				if is && m.opens(t, rule.Ports, to, port) {
					return true
				}
			}
		}
	}
	return false
}

// leaves says whether a policy lets a pod of a workload connect to a port of another.
func (m manifests) leaves(t *testing.T, from, to string, port int32) bool {
	t.Helper()
	for _, p := range m.policies {
		if !matches(t, &p.Spec.PodSelector, m.workloads[from].pod.Labels) {
			continue
		}
		for _, rule := range p.Spec.Egress {
			for _, peer := range rule.To {
				if peer.NamespaceSelector == nil && matches(t, peer.PodSelector, m.workloads[to].pod.Labels) &&
					m.opens(t, rule.Ports, to, port) {
					return true
				}
			}
		}
	}
	return false
}

func (m manifests) opens(t *testing.T, ports []networkingv1.NetworkPolicyPort, of string, number int32) bool {
	t.Helper()
	return slices.ContainsFunc(ports, func(p networkingv1.NetworkPolicyPort) bool {
		return p.Port.IntVal == number || p.Port.StrVal != "" && m.port(t, of, *p.Port) == number
	})
}
