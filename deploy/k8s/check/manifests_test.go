// Package check holds the manifests of deploy/k8s against the types and rules of Kubernetes, the
// programs and the documentation. It is a module of its own, so that the programs' module knows
// nothing of Kubernetes.
package check

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

const overlays = "../overlays/"

// A workload is what makes pods.
type workload struct {
	kind, name string
	pod        corev1.PodTemplateSpec
	replicas   int32
	selector   *metav1.LabelSelector // nil for a Job
}

// container returns the only container of the pods.
func (w workload) container() corev1.Container { return w.pod.Spec.Containers[0] }

// Manifests are the objects of an overlay.
type manifests struct {
	namespace  corev1.Namespace
	workloads  map[string]workload
	services   []corev1.Service
	maps       map[string]corev1.ConfigMap
	claims     map[string]corev1.PersistentVolumeClaim
	budgets    []policyv1.PodDisruptionBudget
	policies   map[string]networkingv1.NetworkPolicy
	nats       appsv1.StatefulSet
	deployment map[string]appsv1.Deployment
}

// each runs a test on the manifests of every overlay.
func each(t *testing.T, test func(*testing.T, manifests)) {
	t.Helper()
	for _, overlay := range []string{"ha", "demo"} {
		t.Run(overlay, func(t *testing.T) { test(t, render(t, overlay)) })
	}
}

// render builds an overlay as `kubectl kustomize` does, and reads it as the API server does with
// strict validation: an unknown or repeated field is an error, and so is a kind that is not here.
func render(t *testing.T, overlay string) manifests {
	t.Helper()
	made, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), overlays+overlay)
	if err != nil {
		t.Fatal(err)
	}
	text, err := made.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, batchv1.AddToScheme,
		networkingv1.AddToScheme, policyv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	decoder := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme,
		json.SerializerOptions{Yaml: true, Strict: true})
	m := manifests{workloads: map[string]workload{}, maps: map[string]corev1.ConfigMap{},
		claims: map[string]corev1.PersistentVolumeClaim{}, policies: map[string]networkingv1.NetworkPolicy{},
		deployment: map[string]appsv1.Deployment{}}
	for _, document := range bytes.Split(text, []byte("\n---\n")) {
		object, _, err := decoder.Decode(document, nil, nil)
		if err != nil {
			t.Fatalf("%v\n%s", err, document)
		}
		m.add(t, object)
	}
	return m
}

// add adds an object, which must be in the namespace.
func (m *manifests) add(t *testing.T, object runtime.Object) {
	t.Helper()
	if o := object.(metav1.Object); o.GetNamespace() != "pillion" && o.GetName() != "pillion" {
		t.Errorf("%T %s is in the namespace %q", object, o.GetName(), o.GetNamespace())
	}
	switch o := object.(type) {
	case *corev1.Namespace:
		m.namespace = *o
	case *corev1.Service:
		m.services = append(m.services, *o)
	case *corev1.ConfigMap:
		m.maps[o.Name] = *o
	case *corev1.PersistentVolumeClaim:
		m.claims[o.Name] = *o
	case *policyv1.PodDisruptionBudget:
		m.budgets = append(m.budgets, *o)
	case *networkingv1.NetworkPolicy:
		m.policies[o.Name] = *o
	case *appsv1.StatefulSet:
		m.nats = *o
		m.workloads[o.Name] = workload{"StatefulSet", o.Name, o.Spec.Template, *o.Spec.Replicas, o.Spec.Selector}
	case *appsv1.Deployment:
		m.deployment[o.Name] = *o
		m.workloads[o.Name] = workload{"Deployment", o.Name, o.Spec.Template, *o.Spec.Replicas, o.Spec.Selector}
	case *batchv1.Job:
		m.workloads[o.Name] = workload{"Job", o.Name, o.Spec.Template, 1, nil}
	default:
		t.Errorf("%T is not expected", object)
	}
}

// services are the names of the Deployments.
var services = []string{"authsvc", "usersvc", "ridersvc"}

// TestWorkloads checks that each overlay has three NATS servers, two instances of each service, and
// the Job that makes the streams, and that a name is all that tells their pods apart.
func TestWorkloads(t *testing.T) {
	each(t, func(t *testing.T, m manifests) {
		want := map[string]int32{"nats": 3, "authsvc": 2, "usersvc": 2, "ridersvc": 2, "provision": 1}
		for name, replicas := range want {
			w := m.workloads[name]
			if w.replicas != replicas || len(w.pod.Spec.Containers) != 1 || len(w.pod.Spec.InitContainers) != 0 {
				t.Fatalf("%s: %d replicas, %d containers", name, w.replicas, len(w.pod.Spec.Containers))
			}
			if w.pod.Labels[nameLabel] != name {
				t.Errorf("the pods of %s have the labels %v", name, w.pod.Labels)
			}
			if s := w.selector; s != nil && (len(s.MatchLabels) != 1 || s.MatchLabels[nameLabel] != name) {
				t.Errorf("%s selects %v", name, s)
			}
		}
		if len(m.workloads) != len(want) {
			t.Errorf("%d workloads, want %d", len(m.workloads), len(want))
		}
		for name, d := range m.deployment {
			if u := d.Spec.Strategy.RollingUpdate; u.MaxUnavailable.IntValue() != 0 || u.MaxSurge.IntValue() != 1 {
				t.Errorf("an upgrade of %s takes an instance away before there is another", name)
			}
		}
	})
}

const nameLabel = "app.kubernetes.io/name"

// TestNATS checks that the servers have the names and the files of deploy/nats.
func TestNATS(t *testing.T) {
	each(t, func(t *testing.T, m manifests) {
		s := m.nats.Spec
		if s.Ordinals.Start != 1 || s.PodManagementPolicy != appsv1.ParallelPodManagement ||
			s.UpdateStrategy.Type != "" || !slices.ContainsFunc(m.services, func(o corev1.Service) bool {
			return o.Name == s.ServiceName && o.Spec.ClusterIP == corev1.ClusterIPNone
		}) {
			t.Errorf("the StatefulSet is %+v", s)
		}
		for i := range *s.Replicas {
			name := fmt.Sprintf("nats-%d", s.Ordinals.Start+i)
			at := slices.IndexFunc(m.services, func(o corev1.Service) bool { return o.Name == name })
			if at < 0 || !m.services[at].Spec.PublishNotReadyAddresses ||
				m.services[at].Spec.ClusterIP != corev1.ClusterIPNone ||
				m.services[at].Spec.Selector["statefulset.kubernetes.io/pod-name"] != name {
				t.Errorf("the name %s does not lead to that server", name)
			}
		}
		var files int
		for _, source := range m.workloads["nats"].pod.Spec.Volumes[0].Projected.Sources {
			if source.ConfigMap == nil {
				continue
			}
			for name, text := range m.maps[source.ConfigMap.Name].Data {
				files++
				if original, err := os.ReadFile("../../nats/" + name); err != nil || string(original) != text {
					t.Errorf("%s is not the file of deploy/nats: %v", name, err)
				}
			}
		}
		c := m.workloads["nats"].container()
		if files != 3 || !slices.Equal(c.Args, []string{"--config", "/nats/cluster.conf"}) ||
			c.VolumeMounts[0].MountPath != "/nats" {
			t.Errorf("%d files of NATS at %s, started with %v", files, c.VolumeMounts[0].MountPath, c.Args)
		}
		if e := c.Env[1]; e.Name != "NODE" || e.ValueFrom.FieldRef.FieldPath != "metadata.name" {
			t.Errorf("the server's name is %+v", e)
		}
	})
}
