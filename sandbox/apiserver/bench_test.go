package apiserver

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// BenchmarkStart tells how long a new control plane takes to be ready (the time of one iteration is start and
// stop together) and how much memory it then has.
//
//	go test ./sandbox/apiserver -run '^$' -bench Start -benchtime 5x
func BenchmarkStart(b *testing.B) {
	var ready, stop time.Duration
	var resident float64
	for b.Loop() {
		begin := time.Now()
		p, err := Start(b.Context(), Config{Dir: b.TempDir()})
		if err != nil {
			b.Fatal(err)
		}
		ready += time.Since(begin)
		resident += residentMiB(b, p)
		begin = time.Now()
		if err := p.Stop(); err != nil {
			b.Fatal(err)
		}
		stop += time.Since(begin)
	}
	b.ReportMetric(ready.Seconds()/float64(b.N), "s/ready")
	b.ReportMetric(stop.Seconds()/float64(b.N), "s/stop")
	b.ReportMetric(resident/float64(b.N), "MiB")
}

// BenchmarkPods tells how long the controllers take to make the pods of ten Deployments with 300 replicas each.
//
//	go test ./sandbox/apiserver -run '^$' -bench Pods -benchtime 1x
func BenchmarkPods(b *testing.B) {
	const deployments, replicas = 10, 300
	var made time.Duration
	var resident float64
	for b.Loop() {
		p, err := Start(b.Context(), Config{Dir: b.TempDir()})
		if err != nil {
			b.Fatal(err)
		}
		config, err := p.RESTConfig()
		if err != nil {
			b.Fatal(err)
		}
		client := kubernetes.NewForConfigOrDie(config)
		begin := time.Now()
		for i := range deployments {
			d := deployment(fmt.Sprintf("app-%d", i), replicas)
			if _, err := client.AppsV1().Deployments("default").Create(b.Context(), d, metav1.CreateOptions{}); err != nil {
				b.Fatal(err)
			}
		}
		awaitPods(b, b.Context(), client, deployments*replicas)
		made += time.Since(begin)
		resident += residentMiB(b, p)
		if err := p.Stop(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(made.Seconds()/float64(b.N), "s/3000pods")
	b.ReportMetric(resident/float64(b.N), "MiB")
}

// awaitPods waits until namespace default has n pods. The API server ends a watch that falls behind in a burst;
// a new one starts with the pods that there are.
func awaitPods(b *testing.B, ctx context.Context, client kubernetes.Interface, n int) {
	b.Helper()
	for ctx.Err() == nil {
		seen, err := client.CoreV1().Pods("default").Watch(ctx, metav1.ListOptions{})
		if err != nil {
			b.Fatal(err)
		}
		added := 0
		for event := range seen.ResultChan() {
			if event.Type != watch.Added {
				continue
			}
			if added++; added == n {
				seen.Stop()
				return
			}
		}
	}
	b.Fatal(ctx.Err())
}

// residentMiB returns the memory that the control plane holds now.
func residentMiB(b *testing.B, p *ControlPlane) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		b.Skipf("cannot tell the memory of the control plane: %v", err)
	}
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "VmRSS:" {
			kib, err := strconv.ParseFloat(fields[1], 64)
			if err != nil {
				b.Fatal(err)
			}
			return kib / 1024
		}
	}
	b.Fatal("the status of the process does not tell VmRSS")
	return 0
}
