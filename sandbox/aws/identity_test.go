package aws_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/lockstep-delivery/lockstep/sandbox/aws"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/policy"
	awssts "github.com/lockstep-delivery/lockstep/sandbox/aws/sts"
)

// config is what SDK clients of the emulator are made of.
func (w *world) config(provider sdk.CredentialsProvider) sdk.Config {
	return sdk.Config{
		Region: "eu-west-1", BaseEndpoint: new(w.endpoint), Credentials: provider,
		Retryer: func() sdk.Retryer { return sdk.NopRetryer{} },
	}
}

func document(t *testing.T, statements string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse([]byte(`{"Statement":[` + statements + `]}`))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func role(name string) *string { return new("arn:aws:iam::123456789012:role/" + name) }

func TestRolesCanBeAssumed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *aws.Config) {
		c.Roles = []awssts.Role{
			{Name: "reader", Policy: document(t, `{"Effect":"Allow","Action":["elasticloadbalancing:Describe*","sts:AssumeRole"]}`)},
			{Name: "partner", ExternalID: "secret"},
		}
	})
	reader := stscreds.NewAssumeRoleProvider(w.sts, *role("reader"), func(o *stscreds.AssumeRoleOptions) { o.RoleSessionName = "test" })
	as := w.config(reader)
	who := must(sts.NewFromConfig(as).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{}))(w)
	if *who.Arn != "arn:aws:sts::123456789012:assumed-role/reader/test" || !strings.HasSuffix(*who.UserId, ":test") {
		t.Errorf("the session is %s, %s", *who.Arn, *who.UserId)
	}
	must(elb.NewFromConfig(as).DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{}))(w)
	_, err := elb.NewFromConfig(as).DeleteLoadBalancer(ctx, &elb.DeleteLoadBalancerInput{LoadBalancerArn: role("x")})
	w.wantCode(err, "AccessDenied")
	w.wantStatus(err, 403)
	if !strings.Contains(err.Error(), "assumed-role/reader/test is not authorized to perform: elasticloadbalancing:DeleteLoadBalancer") {
		t.Errorf("the denial does not say who may not do what: %v", err)
	}
	_, err = ec2.NewFromConfig(as).DescribeVpcs(ctx, &ec2.DescribeVpcsInput{})
	w.wantCode(err, "UnauthorizedOperation")
	w.wantStatus(err, 403)

	restricted := must(w.sts.AssumeRole(ctx, &sts.AssumeRoleInput{
		RoleArn: role("reader"), RoleSessionName: new("narrow"), Policy: new(`{"Statement":{"Effect":"Allow","Action":"ec2:*"}}`),
	}))(w).Credentials
	narrow := w.config(credentials.NewStaticCredentialsProvider(*restricted.AccessKeyId, *restricted.SecretAccessKey, *restricted.SessionToken))
	_, err = elb.NewFromConfig(narrow).DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{})
	w.wantCode(err, "AccessDenied")

	for _, tt := range []struct {
		why  string
		in   sts.AssumeRoleInput
		code string
	}{
		{"no such role", sts.AssumeRoleInput{RoleArn: role("nobody"), RoleSessionName: new("test")}, "AccessDenied"},
		{"of another account", sts.AssumeRoleInput{RoleArn: new("arn:aws:iam::999999999999:role/reader"), RoleSessionName: new("test")}, "AccessDenied"},
		{"without its external id", sts.AssumeRoleInput{RoleArn: role("partner"), RoleSessionName: new("test")}, "AccessDenied"},
		{"with it", sts.AssumeRoleInput{RoleArn: role("partner"), RoleSessionName: new("test"), ExternalId: new("secret")}, ""},
		{"no ARN", sts.AssumeRoleInput{RoleArn: new("reader"), RoleSessionName: new("test")}, "ValidationError"},
		{"a bad name", sts.AssumeRoleInput{RoleArn: role("reader"), RoleSessionName: new("a b")}, "ValidationError"},
		{"too short", sts.AssumeRoleInput{RoleArn: role("reader"), RoleSessionName: new("test"), DurationSeconds: new(int32(60))}, "ValidationError"},
		{"a bad policy", sts.AssumeRoleInput{RoleArn: role("reader"), RoleSessionName: new("test"), Policy: new("{}")}, "MalformedPolicyDocument"},
	} {
		_, err := w.sts.AssumeRole(ctx, &tt.in)
		if tt.code == "" {
			if err != nil {
				t.Errorf("%s: %v", tt.why, err)
			}
			continue
		}
		t.Run(tt.why, func(t *testing.T) { (&world{T: t}).wantCode(err, tt.code) })
	}
	_, err = sts.NewFromConfig(as).AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: role("reader"), RoleSessionName: new("chain"), DurationSeconds: new(int32(7200))})
	w.wantCode(err, "ValidationError")
}

func TestTemporaryKeysEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key, err := w.emulator.STS().Issue("any", "test", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	gone, err := w.emulator.STS().Issue("any", "test", 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		why               string
		id, secret, token string
		code, ec2Code     string
		ec2Status         int
	}{
		{"in force", key.ID, key.Secret, key.Token, "", "", 0},
		{"without its token", key.ID, key.Secret, "", "InvalidClientTokenId", "AuthFailure", 401},
		{"with that of another", key.ID, key.Secret, gone.Token, "InvalidClientTokenId", "AuthFailure", 401},
		{"expired", gone.ID, gone.Secret, gone.Token, "ExpiredToken", "RequestExpired", 400},
		{"expired, with a wrong secret", gone.ID, "guess", gone.Token, "SignatureDoesNotMatch", "AuthFailure", 401},
	} {
		t.Run(tt.why, func(t *testing.T) {
			config := w.config(credentials.NewStaticCredentialsProvider(tt.id, tt.secret, tt.token))
			_, first := elb.NewFromConfig(config).DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{})
			_, second := ec2.NewFromConfig(config).DescribeVpcs(ctx, &ec2.DescribeVpcsInput{})
			if tt.code == "" {
				if first != nil || second != nil {
					t.Fatal(first, second)
				}
				return
			}
			checked := &world{T: t}
			checked.wantCode(first, tt.code)
			checked.wantStatus(first, 403)
			checked.wantCode(second, tt.ec2Code)
			checked.wantStatus(second, tt.ec2Status)
		})
	}
}

func TestTheAccountsOwnPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *aws.Config) {
		c.Policy = document(t, `{"Effect":"Allow","Action":"*"},{"Effect":"Deny","Action":"elasticloadbalancing:Create*","Resource":"*"}`)
	})
	must(w.elb.DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{}))(w)
	_, err := w.elb.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{Name: new("a")})
	w.wantCode(err, "AccessDenied")
	if !strings.Contains(err.Error(), "explicit deny") {
		t.Errorf("the denial does not say that it is explicit: %v", err)
	}
}

// token is a JWT as a cluster makes it, without a signature that anybody could check.
func token(claims string) string {
	part := base64.RawURLEncoding.EncodeToString
	return part([]byte(`{"alg":"RS256"}`)) + "." + part([]byte(claims)) + "." + part([]byte("signature"))
}

func TestWebIdentity(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	claims := func(expires time.Time) string {
		return fmt.Sprintf(`{"iss":"https://issuer.test","sub":"system:serviceaccount:a:b","aud":["sts.amazonaws.com"],"exp":%d}`, expires.Unix())
	}
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token(claims(time.Now().Add(time.Hour)))), 0o600); err != nil {
		t.Fatal(err)
	}
	// What the default chain makes of AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE.
	provider := stscreds.NewWebIdentityRoleProvider(w.sts, *role("controller"), stscreds.IdentityTokenFile(file), func(o *stscreds.WebIdentityRoleOptions) {
		o.RoleSessionName = "pod"
	})
	who := must(sts.NewFromConfig(w.config(provider)).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{}))(w)
	if *who.Arn != "arn:aws:sts::123456789012:assumed-role/controller/pod" {
		t.Errorf("the session is %s", *who.Arn)
	}
	for why, tt := range map[string]struct{ token, code string }{
		"no token at all":  {"none", "InvalidIdentityToken"},
		"expired":          {token(claims(time.Now().Add(-time.Minute))), "ExpiredTokenException"},
		"without audience": {token(`{"iss":"a","sub":"b","exp":9999999999}`), "InvalidIdentityToken"},
	} {
		_, err := w.sts.AssumeRoleWithWebIdentity(ctx, &sts.AssumeRoleWithWebIdentityInput{
			RoleArn: role("controller"), RoleSessionName: new("pod"), WebIdentityToken: &tt.token,
		})
		t.Run(why, func(t *testing.T) { (&world{T: t}).wantCode(err, tt.code) })
	}
	// Without a signature nothing else goes.
	response, err := http.Get(w.endpoint + "/?Action=AssumeRole&Version=2011-06-15")
	if err != nil || response.StatusCode != http.StatusForbidden {
		t.Errorf("an unsigned AssumeRole: %v, %v", response, err)
	}
	response.Body.Close()
}

// Programs prove who they are to others with the URL of a call that they could make: tokens for clusters are such URLs.
func TestPresignedCalls(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key, err := w.emulator.STS().Issue("any", "url", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	config := w.config(credentials.NewStaticCredentialsProvider(key.ID, key.Secret, key.Token))
	signed := must(sts.NewPresignClient(sts.NewFromConfig(config)).PresignGetCallerIdentity(ctx, &sts.GetCallerIdentityInput{}, func(o *sts.PresignOptions) {
		o.Presigner = expiring{v4.NewSigner(), "60"}
	}))(w)
	ended := must(sts.NewPresignClient(sts.NewFromConfig(config)).PresignGetCallerIdentity(ctx, &sts.GetCallerIdentityInput{}, func(o *sts.PresignOptions) {
		o.Presigner = earlier{expiring{v4.NewSigner(), "60"}}
	}))(w)
	for _, tt := range []struct {
		why, url, says string
		status         int
	}{
		{"as it was made", signed.URL, "assumed-role/any/url", 200},
		{"with something added", signed.URL + "&Other=1", "SignatureDoesNotMatch", 403},
		{"with a longer life", strings.Replace(signed.URL, "Expires=60", "Expires=600", 1), "SignatureDoesNotMatch", 403},
		{"with too long a life", strings.Replace(signed.URL, "Expires=60", "Expires=6000000", 1), "IncompleteSignature", 403},
		{"without its token", strings.Replace(signed.URL, "X-Amz-Security-Token", "Other", 1), "InvalidClientTokenId", 403},
		{"after its end", ended.URL, "SignatureDoesNotMatch", 403},
	} {
		request, err := http.NewRequestWithContext(ctx, signed.Method, tt.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != tt.status || !strings.Contains(string(body), tt.says) {
			t.Errorf("%s: %d %s %v, want %d %s", tt.why, response.StatusCode, body, err, tt.status, tt.says)
		}
	}
}

// expiring makes URLs that end to work after some seconds, earlier ones that were made two minutes ago.
type (
	expiring struct {
		sts.HTTPPresignerV4
		seconds string
	}
	earlier struct{ sts.HTTPPresignerV4 }
)

func (p expiring) PresignHTTP(ctx context.Context, c sdk.Credentials, r *http.Request, hash, service, region string, at time.Time, o ...func(*v4.SignerOptions)) (string, http.Header, error) {
	query := r.URL.Query()
	query.Set("X-Amz-Expires", p.seconds)
	r.URL.RawQuery = query.Encode()
	return p.HTTPPresignerV4.PresignHTTP(ctx, c, r, hash, service, region, at, o...)
}

func (p earlier) PresignHTTP(ctx context.Context, c sdk.Credentials, r *http.Request, hash, service, region string, at time.Time, o ...func(*v4.SignerOptions)) (string, http.Header, error) {
	return p.HTTPPresignerV4.PresignHTTP(ctx, c, r, hash, service, region, at.Add(-2*time.Minute), o...)
}
