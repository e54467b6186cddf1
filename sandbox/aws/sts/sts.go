// Package sts knows who may sign requests to the emulated AWS: the account's own key, those of its users, and the temporary
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
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/policy"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/resourceid"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// Config is the account.
type Config struct {
	AccountID string
	IDs       *resourceid.Source
	// Draws say how long new users, roles and policies take to count. Nil: they count at once.
	Draws *profile.Draws
	// User is the name of the user who owns the account's key: AccessKeyID and SecretAccessKey. Policy is
	// what the user may do; nil: everything.
	User                         string
	AccessKeyID, SecretAccessKey string
	Policy                       *policy.Policy
	// Users and Roles are those that the account has besides. Roles nil: every name is that of a role that may do everything.
	Users []User
	Roles []Role
}

// User is a user of the account with a key.
type User struct {
	Name                         string
	AccessKeyID, SecretAccessKey string
	// Policy is what the user may do; nil: everything.
	Policy *policy.Policy
}

// Role is a role of the account.
type Role struct {
	// Name may have a path in front: team/deployer.
	Name string
	// ExternalID has to be named by who assumes the role, if it is not empty.
	ExternalID string
	// Policy is what the role may do; nil: everything.
	Policy *policy.Policy
	// MaxSession is how long a session may be. Default: 12 hours, since AWS's one hour would be in the way of who never set it.
	MaxSession time.Duration
}

// Principal is who a request comes from.
type Principal struct {
	ARN    string
	UserID string
	// Name is that of a user, empty for a session of a role.
	Name string
	// policies all have to allow an action: that of the user or role, and that of the session.
	policies []*policy.Policy
	session  bool
}

// Decide says whether the principal may do something.
func (p Principal) Decide(r policy.Request) policy.Decision {
	decision := policy.Allowed
	for _, one := range p.policies {
		if one == nil {
			continue
		}
		switch one.Decide(r) {
		case policy.Denied:
			return policy.Denied
		case policy.NotAllowed:
			decision = policy.NotAllowed
		}
	}
	return decision
}

// Unrestricted says that no policy holds the principal back.
func (p Principal) Unrestricted() bool {
	return !slices.ContainsFunc(p.policies, func(one *policy.Policy) bool { return one != nil })
}

// RoleOrUser is the ARN of a user, or that of the role of a session.
func (p Principal) RoleOrUser() string {
	head, rest, ok := strings.Cut(p.ARN, ":assumed-role/")
	if !ok {
		return p.ARN
	}
	role, _, _ := strings.Cut(rest, "/")
	return strings.Replace(head, ":sts:", ":iam:", 1) + ":role/" + role
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
	owner  Key

	mu       sync.Mutex
	sessions map[string]session // by access key
	known    []identities       // the first counts, the others will
	changes  int                // of the identities
}

// session is a temporary key, and what it was given out for.
type session struct {
	Key
	role, name  string
	restriction *policy.Policy
}

// identities are the users and roles that count from a moment on.
type identities struct {
	from  time.Time
	users []User
	roles []Role
}

// New returns a service that knows the account's own key.
func New(config Config) *Service {
	s := &Service{config: config, sessions: map[string]session{}, known: []identities{{users: config.Users, roles: config.Roles}}}
	s.owner = s.userKey(User{config.User, config.AccessKeyID, config.SecretAccessKey, config.Policy})
	return s
}

// userKey is the key of a user. The user id is the same in each run.
func (s *Service) userKey(u User) Key {
	return Key{ID: u.AccessKeyID, Secret: u.SecretAccessKey, Principal: Principal{
		ARN: "arn:aws:iam::" + s.config.AccountID + ":user/" + u.Name, UserID: "AIDA" + upper(resourceid.NewSource(0), "user", u.Name, 16), Name: u.Name,
		policies: []*policy.Policy{u.Policy},
	}}
}

// SetIdentities replaces the users and roles. As with IAM, it takes a while until they count everywhere; the draws say how long.
func (s *Service) SetIdentities(users []User, roles []Role) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	next := identities{from: now, users: users, roles: roles}
	s.current()
	if s.config.Draws != nil {
		next.from = now.Add(s.config.Draws.Once(profile.IdentityPropagation, fmt.Sprint("identities#", s.changes)))
	}
	s.changes++
	if last := s.known[len(s.known)-1]; next.from.Before(last.from) {
		next.from = last.from
	}
	s.known = append(s.known, next)
}

// current is what counts now. The caller holds the lock.
func (s *Service) current() identities {
	for len(s.known) > 1 && !time.Now().Before(s.known[1].from) {
		s.known = s.known[1:]
	}
	return s.known[0]
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
	if id == s.owner.ID {
		return s.owner, true
	}
	now := s.current()
	if i := slices.IndexFunc(now.users, func(u User) bool { return u.AccessKeyID == id }); i >= 0 {
		return s.userKey(now.users[i]), true
	}
	found, ok := s.sessions[id]
	if !ok {
		return Key{}, false
	}
	// What a role may do is what it may now, and not what it might when the session began.
	r, ok := now.role(found.role)
	if !ok {
		r.Policy = policy.Join() // a role that is gone may do nothing
	}
	found.Principal.policies = []*policy.Policy{r.Policy, found.restriction}
	return found.Key, true
}

// Account is the key of the account itself.
func (s *Service) Account() Key {
	return s.owner
}

// Issue makes a temporary key for a session of a role. It fails if there is no such role.
func (s *Service) Issue(role, session string, lifetime time.Duration) (Key, error) {
	s.mu.Lock()
	r, ok := s.current().role(role)
	s.mu.Unlock()
	if !ok {
		return Key{}, fmt.Errorf("there is no role %s in account %s", role, s.config.AccountID)
	}
	return s.issue(r, session, nil, lifetime), nil
}

func (s *Service) issue(r Role, name string, restriction *policy.Policy, lifetime time.Duration) Key {
	subject := r.Name + "/" + name
	key := Key{
		ID: "ASIA" + upper(s.config.IDs, "session key", subject, 16), Secret: s.config.IDs.Hex(40, "session secret", subject),
		Token:   s.config.IDs.Hex(64, "session token", subject),
		Expires: time.Now().Add(lifetime).UTC(),
		Principal: Principal{
			ARN:    fmt.Sprintf("arn:aws:sts::%s:assumed-role/%s/%s", s.config.AccountID, r.Name[strings.LastIndex(r.Name, "/")+1:], name),
			UserID: roleID(r) + ":" + name, policies: []*policy.Policy{r.Policy, restriction}, session: true,
		},
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, old := range s.sessions {
		if time.Since(old.Expires) > keptExpired {
			delete(s.sessions, id)
		}
	}
	s.sessions[key.ID] = session{key, r.Name, name, restriction}
	return key
}

// roleID is the same in each session of a role.
func roleID(r Role) string { return "AROA" + upper(resourceid.NewSource(0), "role", r.Name, 16) }

func (i identities) role(name string) (Role, bool) {
	if i.roles == nil {
		return Role{Name: name}, name != ""
	}
	for _, r := range i.roles {
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
		s.mu.Lock()
		role, ok = s.current().role(name)
		s.mu.Unlock()
	}
	switch {
	case !ok:
		return role, 0, nil, errNoSuchRole
	case role.MaxSession > 0 && lifetime > role.MaxSession:
		return role, 0, nil, wire.Errorf("ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
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
