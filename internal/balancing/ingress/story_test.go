package ingress

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	elbv2 "github.com/lockstep-delivery/lockstep/api/elbv2/v1beta1"
	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// subnets is the VPC of all stories: two zones with public and private subnets, one subnet of another cluster.
func subnets() []Subnet {
	return []Subnet{
		{ID: "subnet-0a", Zone: "eu-west-1a", FreeAddresses: 100, Public: true, Tags: map[string]string{"kubernetes.io/role/elb": "1", "Name": "public"}},
		{ID: "subnet-0b", Zone: "eu-west-1b", FreeAddresses: 100, Public: true, Tags: map[string]string{"kubernetes.io/role/elb": "", "Name": "public"}},
		{ID: "subnet-0c", Zone: "eu-west-1b", FreeAddresses: 100, Public: true, Tags: map[string]string{"kubernetes.io/role/elb": "1", "kubernetes.io/cluster/other": "owned"}},
		{ID: "subnet-1a", Zone: "eu-west-1a", FreeAddresses: 100, Tags: map[string]string{"Name": "private"}},
		{ID: "subnet-1b", Zone: "eu-west-1b", FreeAddresses: 100, Tags: map[string]string{"Name": "private"}},
	}
}

func settings() Settings { return Settings{Cluster: "test"} }

// objectsOf reads Kubernetes objects from YAML documents. Each Service gets the UID uid-<name>.
func objectsOf(t testing.TB, data []byte) Objects {
	t.Helper()
	o := Objects{Services: map[string]*corev1.Service{}, Params: map[string]*elbv2.IngressClassParams{}}
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return o
		}
		if err != nil {
			t.Fatal(err)
		}
		var kind struct{ Kind string }
		if err := yaml.Unmarshal(document, &kind); err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		var into any
		switch kind.Kind {
		case "Ingress":
			o.Ingress = &networkingv1.Ingress{}
			into = o.Ingress
		case "Service":
			into = &corev1.Service{}
		case "IngressClass":
			o.Classes = append(o.Classes, networkingv1.IngressClass{})
			into = &o.Classes[len(o.Classes)-1]
		case "IngressClassParams":
			into = &elbv2.IngressClassParams{}
		case "Namespace":
			o.Namespace = &corev1.Namespace{}
			into = o.Namespace
		default:
			t.Fatalf("kind %q in\n%s", kind.Kind, document)
		}
		if err := yaml.UnmarshalStrict(document, into); err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		switch v := into.(type) {
		case *corev1.Service:
			v.UID = types.UID("uid-" + v.Name)
			o.Services[v.Name] = v
		case *elbv2.IngressClassParams:
			o.Params[v.Name] = v
		}
	}
}

// TestStories translates input.yaml of each story; the golden parts are model.yaml, events.txt and error.txt.
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
			want := map[string]string{}
			var input []byte
			for _, f := range archive.Files {
				if f.Name == "input.yaml" {
					input = f.Data
				} else {
					want[f.Name] = string(f.Data)
				}
			}
			stack, events, translateErr := Translate(settings(), objectsOf(t, input), Resolved{
				Subnets:        subnets(),
				SecurityGroups: map[string]string{"edge": "sg-edge"},
				TargetGroups:   map[string]string{"legacy": "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/legacy/1"},
			})
			got := map[string]string{}
			var parts []txtar.File
			part := func(name, text string) {
				if text != "" {
					got[name] = text
					parts = append(parts, txtar.File{Name: name, Data: []byte(text)})
				}
			}
			if translateErr != nil {
				part("error.txt", translateErr.Error()+"\n")
			} else {
				part("model.yaml", modelYAML(t, stack))
			}
			var lines strings.Builder
			for _, e := range events {
				fmt.Fprintf(&lines, "%s: %s\n", e.Reason, e.Message)
			}
			part("events.txt", lines.String())
			if *update {
				archive.Files = append([]txtar.File{{Name: "input.yaml", Data: input}}, parts...)
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

func modelYAML(t *testing.T, stack model.Stack) string {
	t.Helper()
	data, err := yaml.Marshal(stack)
	if err != nil {
		t.Fatal(err)
	}
	// What is unset says nothing: leave it out.
	var lines []string
	for line := range strings.SplitSeq(string(data), "\n") {
		trimmed := strings.TrimLeft(line, "- ")
		if strings.HasSuffix(line, ": null") && !strings.HasPrefix(strings.TrimSpace(line), "- ") || strings.HasSuffix(trimmed, `: ""`) && trimmed == strings.TrimSpace(line) {
			continue
		}
		lines = append(lines, line)
	}
	return string(bytes.TrimSpace([]byte(strings.Join(lines, "\n")))) + "\n"
}
