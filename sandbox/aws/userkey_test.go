package aws_test

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/aws/aws-sdk-go-v2/service/acm"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
)

// A target verifies who the user is as AWS documents it: it asks for the key that the header names.
func TestTargetsVerifyUsers(t *testing.T) {
	t.Parallel()
	vpc, err := address.Claim()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = vpc.Release() })
	w := newWorld(t, func(c *aws.Config) { c.VPC, c.WithoutTraffic = vpc.Mapping, false })
	mux := http.NewServeMux()
	mux.HandleFunc("/authorize", func(rw http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		http.Redirect(rw, r, q.Get("redirect_uri")+"?"+url.Values{"code": {"c"}, "state": {q.Get("state")}}.Encode(), http.StatusFound)
	})
	mux.HandleFunc("/token", func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, `{"access_token":"t"}`) })
	mux.HandleFunc("/userinfo", func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, `{"sub":"kim"}`) })
	issuer := httptest.NewTLSServer(mux)
	t.Cleanup(issuer.Close)

	lb := *w.loadBalancer("web").LoadBalancerArn
	w.letIn(lb) // at port 80, where TLS can be spoken as well
	group := w.targetGroup("web")
	pod := w.podThat(vpc, func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(rw, r.Header.Get("X-Amzn-Oidc-Data"))
	})
	w.register(group, pod)
	text, private := keyPair(t, "shop.example.com")
	certificate := must(acm.NewFromConfig(w.config(owner)).ImportCertificate(ctx, &acm.ImportCertificateInput{Certificate: text, PrivateKey: private}))(w).CertificateArn
	must(w.elb.CreateListener(ctx, &elb.CreateListenerInput{
		LoadBalancerArn: &lb, Port: new(int32(80)), Protocol: types.ProtocolEnumHttps, Certificates: []types.Certificate{{CertificateArn: certificate}},
		DefaultActions: []types.Action{
			{Type: types.ActionTypeEnumAuthenticateOidc, Order: new(int32(1)), AuthenticateOidcConfig: &types.AuthenticateOidcActionConfig{
				Issuer: &issuer.URL, AuthorizationEndpoint: new(issuer.URL + "/authorize"), TokenEndpoint: new(issuer.URL + "/token"),
				UserInfoEndpoint: new(issuer.URL + "/userinfo"), ClientId: new("shop"), ClientSecret: new("s"),
			}},
			{Type: types.ActionTypeEnumForward, Order: new(int32(2)), TargetGroupArn: &group},
		},
	}))(w)
	w.eventually("the target is healthy", func() bool { return w.health(group)[pod].State == types.TargetHealthStateEnumHealthy })

	jar, _ := cookiejar.New(nil)
	client := &http.Client{Jar: jar, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	data := ""
	w.eventually("the login succeeds", func() bool {
		response, err := client.Get("https://" + w.emulator.Endpoints()[0].Nodes[0].Real[80].String() + "/")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		data = string(body)
		return response.StatusCode == 200
	})
	head, _ := base64.URLEncoding.DecodeString(strings.Split(data, ".")[0])
	var header struct{ Kid string }
	if err := json.Unmarshal(head, &header); err != nil || header.Kid == "" {
		t.Fatalf("%q: %v", data, err)
	}
	for path, host := range map[string]string{"/" + header.Kid: "public-keys.auth.elb.eu-west-1.amazonaws.com", "/_lockstep/public-keys/" + header.Kid: ""} {
		request, _ := http.NewRequest(http.MethodGet, w.endpoint+path, nil)
		request.Host = host
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		block, _ := pem.Decode(text)
		if block == nil {
			t.Fatalf("%s: %s %s", path, response.Status, text)
		}
		if key, err := x509.ParsePKIXPublicKey(block.Bytes); err != nil {
			t.Errorf("%s: %v", path, err)
		} else if _, ok := key.(*ecdsa.PublicKey); !ok {
			t.Errorf("%s: a key of type %T", path, key)
		}
	}
}
