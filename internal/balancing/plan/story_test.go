package plan_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/lockstep-delivery/lockstep/internal/balancing/apply"
	"github.com/lockstep-delivery/lockstep/internal/balancing/apply/applytest"
	"github.com/lockstep-delivery/lockstep/internal/balancing/ingress"
	"github.com/lockstep-delivery/lockstep/internal/balancing/plan"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestStories plays each story against a model of AWS. A story is a txtar archive of steps in order:
//
//	N.yaml   Kubernetes objects; they replace those of earlier steps
//	N.world  lines of what happens outside: "targets SUFFIX HEALTHY UNHEALTHY", "time DURATION",
//	         "linger" (deleted bindings stay), "finish" (they are gone), "busy OPERATION" (the budget has no
//	         token for it once), "delete" (the Ingress is being deleted)
//	N.plan   golden: the plans of the rounds that follow, until nothing is left to do now
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			told := &story{t: t, world: &applytest.World{Now: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)}}
			var want, got string
			var out []txtar.File
			for _, f := range archive.Files {
				switch filepath.Ext(f.Name) {
				case ".yaml":
					told.objects = objectsOf(t, f.Data)
				case ".world":
					told.happen(string(f.Data))
				case ".plan":
					want += string(f.Data)
					continue
				}
				out = append(out, f)
				text := told.rounds()
				got += text
				out = append(out, txtar.File{Name: strings.TrimSuffix(f.Name, filepath.Ext(f.Name)) + ".plan", Data: []byte(text)})
			}
			if *update {
				archive.Files = out
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

type story struct {
	t       *testing.T
	world   *applytest.World
	objects ingress.Objects
	busy    string
	overlap map[string]time.Time
}

func (s *story) happen(text string) {
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		switch words[0] {
		case "targets":
			var healthy, unhealthy int
			if _, err := fmt.Sscan(words[2]+" "+words[3], &healthy, &unhealthy); err != nil {
				s.t.Fatal(err)
			}
			s.world.SetTargets(words[1], healthy, unhealthy)
		case "time":
			d, err := time.ParseDuration(words[1])
			if err != nil {
				s.t.Fatal(err)
			}
			s.world.Now = s.world.Now.Add(d)
		case "linger":
			s.world.BindingsLinger = true
		case "finish":
			s.world.FinishBindings()
		case "busy":
			s.busy = words[1]
		case "delete":
			s.objects.Ingress.DeletionTimestamp = new(metav1.NewTime(s.world.Now))
		default:
			s.t.Fatalf("no such event: %s", line)
		}
	}
}

// rounds plans and applies until nothing is to be done now, and tells what was planned.
func (s *story) rounds() string {
	var b strings.Builder
	for range 10 {
		p := s.plan()
		s.overlap = plan.Overlapping(s.overlap, p, s.world.Now)
		if len(p.Operations) == 0 {
			b.WriteString(p.String())
			return b.String()
		}
		b.WriteString(p.String())
		s.world.Refuse = func(operation string) error {
			if operation == s.busy {
				s.busy = ""
				return busyError(s.world.Now)
			}
			return nil
		}
		result := apply.Round{Cloud: s.world, Objects: s.world, BackendGroupID: s.world.BackendGroupID(), Now: s.world.Now}.Do(context.Background(), p.Operations)
		if result.Err != nil {
			fmt.Fprintf(&b, "error   %v\n", result.Err)
		}
		if !result.Again.IsZero() {
			b.WriteString("later\n")
		}
		fmt.Fprintf(&b, "calls   %s\n\n", strings.Join(s.world.Calls(), " "))
	}
	s.t.Fatalf("the plans do not come to an end:\n%s", b.String())
	return ""
}

func (s *story) plan() plan.Plan {
	stack, _, err := ingress.Translate(ingress.Settings{Cluster: "test"}, s.objects, resolved())
	if err != nil {
		s.t.Fatal(err)
	}
	return plan.Make(stack, s.world.Observed(stack.ID), plan.State{
		Now: s.world.Now, Cluster: "test", Settle: 150 * time.Second, HealthAge: time.Minute,
		FirewallSettle: 30 * time.Second, OverlapSince: s.overlap, Bindings: s.world.Bindings(), BackendGroupID: s.world.BackendGroupID(), Alone: true,
	})
}

func resolved() ingress.Resolved {
	return ingress.Resolved{Subnets: []ingress.Subnet{
		{ID: "subnet-a", Zone: "a", FreeAddresses: 100, Tags: map[string]string{"kubernetes.io/role/internal-elb": "1", "kubernetes.io/role/elb": "1"}},
		{ID: "subnet-b", Zone: "b", FreeAddresses: 100, Tags: map[string]string{"kubernetes.io/role/internal-elb": "1", "kubernetes.io/role/elb": "1"}},
	}}
}

// objectsOf reads an Ingress of class alb and its Services; the UID of each Service is uid-<name>.
func objectsOf(t testing.TB, data []byte) ingress.Objects {
	t.Helper()
	o := ingress.Objects{Services: map[string]*corev1.Service{}, Classes: []networkingv1.IngressClass{{
		ObjectMeta: metav1.ObjectMeta{Name: "alb"}, Spec: networkingv1.IngressClassSpec{Controller: ingress.ClassController},
	}}}
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return o
		}
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(document, []byte("kind: Ingress")) {
			o.Ingress = &networkingv1.Ingress{}
			if err := yaml.UnmarshalStrict(document, o.Ingress); err != nil {
				t.Fatalf("%v in\n%s", err, document)
			}
			o.Ingress.Finalizers = []string{ingress.Finalizer}
			continue
		}
		service := &corev1.Service{}
		if err := yaml.UnmarshalStrict(document, service); err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		service.UID = types.UID("uid-" + service.Name)
		o.Services[service.Name] = service
	}
}
