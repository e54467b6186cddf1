// Package sts knows who may sign requests to the emulated AWS: the account's own key, and the temporary
// ones that it gives out itself to who assumes a role.
//
// What is not modelled: roles of other accounts, trust policies (a role may be assumed by everybody in
// the account who may call sts:AssumeRole, with the external id if it has one), MFA, SAML, session tags.
// The signature of a web identity token is not checked: the issuers of clusters are not known here.
package sts

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/policy"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/resourceid"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// Config is the account.
type Config struct {
	AccountID string
	IDs       *resourceid.Source
	// User is the name of the user who owns the account's key: AccessKeyID and SecretAccessKey. Policy is
	// what the user may do; nil: everything.
	User                         string
	AccessKeyID, SecretAccessKey string
	Policy                       *policy.Policy
	// Roles are those that can be assumed. Nil: every name is that of a role that may do everything.
	Roles []Role
}

// Role is a role of the account.
type Role struct {
	// Name may have a path in front: team/deployer.
	Name string
	// ExternalID has to be named by who assumes the role, if it is not empty.
	ExternalID string
	// Policy is what the role may do; nil: everything.
	Policy *policy.Policy
}

// Principal is who a request comes from.
type Principal struct {
	ARN    string
	UserID string
	// policies all have to allow an action: that of the user or role, and that of the session.
	policies []*policy.Policy
	session  bool
}

// Decide says whether the principal may do something.
func (p Principal) Decide(action string) policy.Decision {
	decision := policy.Allowed
	for _, one := range p.policies {
		if one == nil {
			continue
		}
		switch one.Decide(action) {
		case policy.Denied:
			return policy.Denied
		case policy.NotAllowed:
			decision = policy.NotAllowed
		}
	}
	return decision
}

// Key is what a principal signs with.
type Key struct {
	ID, Secret string
	// Token has to come with requests of a temporary key, Expires is when that ends to work. Zero for
	// the account's own key.
	Token     string
	Expires   time.Time
	Principal Principal
}

// keptExpired is for how long an expired key is told from one that never was.
const keptExpired = time.Hour

// Service is STS of one account. Its methods may be called from several goroutines.
type Service struct {
	config Config

	mu   sync.Mutex
	keys map[string]Key
}

// New returns a service that knows the account's own key.
func New(config Config) *Service {
	user := Principal{
		ARN: "arn:aws:iam::" + config.AccountID + ":user/" + config.User, UserID: "AIDA" + upper(config.IDs, "user", config.User, 16),
		policies: []*policy.Policy{config.Policy},
	}
	own := Key{ID: config.AccessKeyID, Secret: config.SecretAccessKey, Principal: user}
	return &Service{config: config, keys: map[string]Key{own.ID: own}}
}

func upper(ids *resourceid.Source, kind, name string, digits int) string {
	return strings.ToUpper(ids.Hex(digits, kind, name))
}

// Operations are the operations that the service answers.
func (s *Service) Operations() wire.Operations[eventual.Reader] {
	return wire.NewOperations(
		wire.Of(s.GetCallerIdentity),
		wire.Of(s.AssumeRole),
		wire.Of(s.AssumeRoleWithWebIdentity),
	)
}

// Key finds a key by its id, also one that has expired of late.
func (s *Service) Key(id string) (Key, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, ok := s.keys[id]
	return key, ok
}

// Account is the key of the account itself.
func (s *Service) Account() Key {
	key, _ := s.Key(s.config.AccessKeyID)
	return key
}

// Issue makes a temporary key for a session of a role. It fails if there is no such role.
func (s *Service) Issue(role, session string, lifetime time.Duration) (Key, error) {
	r, ok := s.role(role)
	if !ok {
		return Key{}, fmt.Errorf("there is no role %s in account %s", role, s.config.AccountID)
	}
	return s.issue(r, session, nil, lifetime), nil
}

func (s *Service) issue(r Role, session string, sessionPolicy *policy.Policy, lifetime time.Duration) Key {
	name := r.Name[strings.LastIndex(r.Name, "/")+1:]
	subject := r.Name + "/" + session
	key := Key{
		ID: "ASIA" + upper(s.config.IDs, "session key", subject, 16), Secret: s.config.IDs.Hex(40, "session secret", subject),
		Token:   s.config.IDs.Hex(64, "session token", subject),
		Expires: time.Now().Add(lifetime).UTC(),
		Principal: Principal{
			ARN:    fmt.Sprintf("arn:aws:sts::%s:assumed-role/%s/%s", s.config.AccountID, name, session),
			UserID: roleID(r) + ":" + session, policies: []*policy.Policy{r.Policy, sessionPolicy}, session: true,
		},
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, old := range s.keys {
		if !old.Expires.IsZero() && time.Since(old.Expires) > keptExpired {
			delete(s.keys, id)
		}
	}
	s.keys[key.ID] = key
	return key
}

// roleID is the same in each session of a role.
func roleID(r Role) string { return "AROA" + upper(resourceid.NewSource(0), "role", r.Name, 16) }

func (s *Service) role(name string) (Role, bool) {
	if s.config.Roles == nil {
		return Role{Name: name}, name != ""
	}
	for _, r := range s.config.Roles {
		if r.Name == name {
			return r, true
		}
	}
	return Role{}, false
}

// GetCallerIdentity tells the caller who it is.
func (s *Service) GetCallerIdentity(r eventual.Reader, _ *sts.GetCallerIdentityInput) (*sts.GetCallerIdentityOutput, error) {
	caller := s.caller(r)
	return &sts.GetCallerIdentityOutput{Account: new(s.config.AccountID), Arn: new(caller.ARN), UserId: new(caller.UserID)}, nil
}

// caller is who asks; who needs not sign passes for the account's user.
func (s *Service) caller(r eventual.Reader) Principal {
	if key, ok := s.Key(r.AccessKey); ok {
		return key.Principal
	}
	return s.Account().Principal
}

const (
	leastSession   = 15 * time.Minute
	longestSession = 12 * time.Hour
	// chained is how long a session may be that is made out of another.
	chained = time.Hour
)

var sessionName = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)

// request is what both ways to assume a role have in common.
type request struct {
	role, session, policy *string
	seconds               *int32
	longest               time.Duration
}

// parse validates a request and finds its role.
func (s *Service) parse(in request) (role Role, lifetime time.Duration, restriction *policy.Policy, err error) {
	invalid := func(format string, args ...any) error {
		return wire.Errorf("ValidationError", "1 validation error detected: "+format, args...)
	}
	lifetime = time.Hour
	if in.seconds != nil {
		lifetime = time.Duration(*in.seconds) * time.Second
	}
	switch {
	case in.role == nil || len(*in.role) < 20 || !strings.HasPrefix(*in.role, "arn:"):
		return role, 0, nil, invalid("the value at 'roleArn' must be the ARN of a role")
	case in.session == nil || !sessionName.MatchString(*in.session):
		return role, 0, nil, invalid("the value at 'roleSessionName' must have 2 to 64 letters, digits and any of _ + = , . @ -")
	case lifetime < leastSession || lifetime > longestSession:
		return role, 0, nil, invalid("the value at 'durationSeconds' must be between %v and %v", leastSession.Seconds(), longestSession.Seconds())
	case lifetime > in.longest:
		return role, 0, nil, wire.Errorf("ValidationError", "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining")
	}
	if in.policy != nil {
		if restriction, err = policy.Parse([]byte(*in.policy)); err != nil {
			return role, 0, nil, wire.Errorf("MalformedPolicyDocument", "%v", err)
		}
	}
	name, ok := strings.CutPrefix(*in.role, "arn:aws:iam::"+s.config.AccountID+":role/")
	if ok {
		role, ok = s.role(name)
	}
	if !ok {
		return role, 0, nil, errNoSuchRole
	}
	return role, lifetime, restriction, nil
}

// errNoSuchRole: AWS does not tell a role that is not there from one that may not be assumed.
var errNoSuchRole = errors.New("no such role")

func denied(operation string, caller Principal, role string) error {
	return wire.Errorf("AccessDenied", "User: %s is not authorized to perform: sts:%s on resource: %s", caller.ARN, operation, role).WithStatus(403)
}

// AssumeRole gives out a temporary key for a role.
func (s *Service) AssumeRole(r eventual.Reader, in *sts.AssumeRoleInput) (*sts.AssumeRoleOutput, error) {
	caller := s.caller(r)
	longest := longestSession
	if caller.session {
		longest = chained
	}
	role, lifetime, restriction, err := s.parse(request{in.RoleArn, in.RoleSessionName, in.Policy, in.DurationSeconds, longest})
	if errors.Is(err, errNoSuchRole) || err == nil && role.ExternalID != "" && (in.ExternalId == nil || *in.ExternalId != role.ExternalID) {
		return nil, denied("AssumeRole", caller, *in.RoleArn)
	}
	if err != nil {
		return nil, err
	}
	key := s.issue(role, *in.RoleSessionName, restriction, lifetime)
	return &sts.AssumeRoleOutput{Credentials: key.credentials(), AssumedRoleUser: key.user(), SourceIdentity: in.SourceIdentity}, nil
}

// AssumeRoleWithWebIdentity gives out a temporary key for a role to who shows a token. The call itself
// is not signed.
func (s *Service) AssumeRoleWithWebIdentity(_ eventual.Reader, in *sts.AssumeRoleWithWebIdentityInput) (*sts.AssumeRoleWithWebIdentityOutput, error) {
	role, lifetime, restriction, err := s.parse(request{in.RoleArn, in.RoleSessionName, in.Policy, in.DurationSeconds, longestSession})
	if errors.Is(err, errNoSuchRole) {
		return nil, wire.Errorf("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity").WithStatus(403)
	}
	if err != nil {
		return nil, err
	}
	claims, err := readToken(in.WebIdentityToken)
	if err != nil {
		return nil, err
	}
	key := s.issue(role, *in.RoleSessionName, restriction, lifetime)
	return &sts.AssumeRoleWithWebIdentityOutput{
		Credentials: key.credentials(), AssumedRoleUser: key.user(),
		Audience: new(claims.audience()), Provider: new(claims.Issuer), SubjectFromWebIdentityToken: new(claims.Subject),
	}, nil
}

func (k Key) credentials() *types.Credentials {
	return &types.Credentials{AccessKeyId: new(k.ID), SecretAccessKey: new(k.Secret), SessionToken: new(k.Token), Expiration: new(k.Expires)}
}

func (k Key) user() *types.AssumedRoleUser {
	return &types.AssumedRoleUser{Arn: new(k.Principal.ARN), AssumedRoleId: new(k.Principal.UserID)}
}
