package v1alpha1

import (
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// BlueGreenStrategy switches all traffic at once.
type BlueGreenStrategy struct {
	ActiveService               string               `json:"activeService"`
	PreviewService              string               `json:"previewService,omitempty"`
	PreviewReplicaCount         *int32               `json:"previewReplicaCount,omitempty"`
	AutoPromotionEnabled        *bool                `json:"autoPromotionEnabled,omitempty"`
	AutoPromotionSeconds        int32                `json:"autoPromotionSeconds,omitempty"`
	MaxUnavailable              *intstr.IntOrString  `json:"maxUnavailable,omitempty"`
	ScaleDownDelaySeconds       *int32               `json:"scaleDownDelaySeconds,omitempty"`
	ScaleDownDelayRevisionLimit *int32               `json:"scaleDownDelayRevisionLimit,omitempty"`
	AbortScaleDownDelaySeconds  *int32               `json:"abortScaleDownDelaySeconds,omitempty"`
	PrePromotionAnalysis        *RolloutAnalysis     `json:"prePromotionAnalysis,omitempty"`
	PostPromotionAnalysis       *RolloutAnalysis     `json:"postPromotionAnalysis,omitempty"`
	AntiAffinity                *AntiAffinity        `json:"antiAffinity,omitempty"`
	PreviewMetadata             *PodTemplateMetadata `json:"previewMetadata,omitempty"`
	ActiveMetadata              *PodTemplateMetadata `json:"activeMetadata,omitempty"`
}

// CanaryStrategy moves traffic step by step.
type CanaryStrategy struct {
	CanaryService  string                 `json:"canaryService,omitempty"`
	StableService  string                 `json:"stableService,omitempty"`
	Steps          []CanaryStep           `json:"steps,omitempty"`
	TrafficRouting *RolloutTrafficRouting `json:"trafficRouting,omitempty"`
	// MaxSurge and MaxUnavailable: a string is a percentage with or without the sign; 25 % when absent.
	MaxSurge       *intstr.IntOrString        `json:"maxSurge,omitempty"`
	MaxUnavailable *intstr.IntOrString        `json:"maxUnavailable,omitempty"`
	Analysis       *RolloutAnalysisBackground `json:"analysis,omitempty"`
	AntiAffinity   *AntiAffinity              `json:"antiAffinity,omitempty"`
	CanaryMetadata *PodTemplateMetadata       `json:"canaryMetadata,omitempty"`
	StableMetadata *PodTemplateMetadata       `json:"stableMetadata,omitempty"`
	// ScaleDownDelaySeconds is how long the previous version is kept after promotion; 30 with traffic routing.
	ScaleDownDelaySeconds       *int32 `json:"scaleDownDelaySeconds,omitempty"`
	ScaleDownDelayRevisionLimit *int32 `json:"scaleDownDelayRevisionLimit,omitempty"`
	// AbortScaleDownDelaySeconds is how long an aborted canary is kept; 30 when absent, 0 keeps it.
	AbortScaleDownDelaySeconds *int32 `json:"abortScaleDownDelaySeconds,omitempty"`
	// DynamicStableScale sizes the stable ReplicaSet by its share of the traffic.
	DynamicStableScale       bool                      `json:"dynamicStableScale,omitempty"`
	PingPong                 *PingPongSpec             `json:"pingPong,omitempty"`
	MinPodsPerReplicaSet     *int32                    `json:"minPodsPerReplicaSet,omitempty"`
	ReplicaProgressThreshold *ReplicaProgressThreshold `json:"replicaProgressThreshold,omitempty"`
}

// ReplicaProgressThreshold relaxes "all canary pods are available".
type ReplicaProgressThreshold struct {
	// Type is Percent or Pods.
	Type  string `json:"type"`
	Value int32  `json:"value"`
}

// PingPongSpec names two Services that swap roles.
type PingPongSpec struct {
	PingService string `json:"pingService"`
	PongService string `json:"pongService"`
}

// PodTemplateMetadata is metadata that is put on pods without a new revision.
type PodTemplateMetadata struct {
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// AntiAffinity keeps pods of two versions on different nodes; exactly one field is set.
type AntiAffinity struct {
	PreferredDuringSchedulingIgnoredDuringExecution *PreferredAntiAffinity `json:"preferredDuringSchedulingIgnoredDuringExecution,omitempty"`
	RequiredDuringSchedulingIgnoredDuringExecution  *RequiredAntiAffinity  `json:"requiredDuringSchedulingIgnoredDuringExecution,omitempty"`
}

// PreferredAntiAffinity is a wish with a weight of 1 to 100.
type PreferredAntiAffinity struct {
	Weight int32 `json:"weight"`
}

// RequiredAntiAffinity has no settings.
type RequiredAntiAffinity struct{}

// CanaryStep is one step; one of its fields is set.
type CanaryStep struct {
	SetWeight      *int32                 `json:"setWeight,omitempty"`
	Pause          *RolloutPause          `json:"pause,omitempty"`
	Experiment     *RolloutExperimentStep `json:"experiment,omitempty"`
	Analysis       *RolloutAnalysis       `json:"analysis,omitempty"`
	SetCanaryScale *SetCanaryScale        `json:"setCanaryScale,omitempty"`
	SetHeaderRoute *SetHeaderRoute        `json:"setHeaderRoute,omitempty"`
	SetMirrorRoute *SetMirrorRoute        `json:"setMirrorRoute,omitempty"`
	Plugin         *PluginStep            `json:"plugin,omitempty"`
}

// RolloutPause waits for a duration, or for a person when it is absent.
type RolloutPause struct {
	// Duration is a number of seconds, or a string that is one or a Go duration.
	Duration *intstr.IntOrString `json:"duration,omitempty"`
}

// SetCanaryScale sizes the canary without moving traffic; one of its fields is set.
type SetCanaryScale struct {
	Weight             *int32 `json:"weight,omitempty"`
	Replicas           *int32 `json:"replicas,omitempty"`
	MatchTrafficWeight bool   `json:"matchTrafficWeight,omitempty"`
}

// SetHeaderRoute sends requests with given headers to the canary; a nil match removes the route.
type SetHeaderRoute struct {
	Name  string               `json:"name,omitempty"`
	Match []HeaderRoutingMatch `json:"match,omitempty"`
}

// HeaderRoutingMatch is one header and its value.
type HeaderRoutingMatch struct {
	HeaderName  string       `json:"headerName"`
	HeaderValue *StringMatch `json:"headerValue"`
}

// StringMatch is one of its fields.
type StringMatch struct {
	Exact  string `json:"exact,omitempty"`
	Prefix string `json:"prefix,omitempty"`
	Regex  string `json:"regex,omitempty"`
}

// SetMirrorRoute copies requests to the canary; a nil match removes the route.
type SetMirrorRoute struct {
	Name       string       `json:"name"`
	Match      []RouteMatch `json:"match,omitempty"`
	Percentage *int32       `json:"percentage,omitempty"`
}

// RouteMatch selects requests by method, path and headers.
type RouteMatch struct {
	Method  *StringMatch           `json:"method,omitempty"`
	Path    *StringMatch           `json:"path,omitempty"`
	Headers map[string]StringMatch `json:"headers,omitempty"`
}

// PluginStep runs a step plugin.
type PluginStep struct {
	Name string `json:"name"`
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:pruning:PreserveUnknownFields
	Config json.RawMessage `json:"config,omitempty"`
}

// RolloutAnalysis says which AnalysisTemplates are run, and how.
type RolloutAnalysis struct {
	Templates            []AnalysisTemplateRef  `json:"templates,omitempty"`
	Args                 []AnalysisRunArgument  `json:"args,omitempty"`
	DryRun               []DryRun               `json:"dryRun,omitempty"`
	MeasurementRetention []MeasurementRetention `json:"measurementRetention,omitempty"`
	AnalysisRunMetadata  *PodTemplateMetadata   `json:"analysisRunMetadata,omitempty"`
}

// RolloutAnalysisBackground runs beside the steps.
type RolloutAnalysisBackground struct {
	RolloutAnalysis `json:",inline"`
	StartingStep    *int32 `json:"startingStep,omitempty"`
}

// AnalysisTemplateRef names an AnalysisTemplate or ClusterAnalysisTemplate.
type AnalysisTemplateRef struct {
	TemplateName string `json:"templateName,omitempty"`
	ClusterScope bool   `json:"clusterScope,omitempty"`
}

// AnalysisRunArgument is a named value.
type AnalysisRunArgument struct {
	Name      string             `json:"name"`
	Value     string             `json:"value,omitempty"`
	ValueFrom *ArgumentValueFrom `json:"valueFrom,omitempty"`
}

// ArgumentValueFrom takes a value from the Rollout.
type ArgumentValueFrom struct {
	// PodTemplateHashValue is Stable or Latest.
	PodTemplateHashValue *string   `json:"podTemplateHashValue,omitempty"`
	FieldRef             *FieldRef `json:"fieldRef,omitempty"`
}

// FieldRef is a path into the Rollout.
type FieldRef struct {
	FieldPath string `json:"fieldPath"`
}

// DryRun names metrics, as a regular expression, whose failure does not count.
type DryRun struct {
	MetricName string `json:"metricName"`
}

// MeasurementRetention says how many measurements of some metrics are kept.
type MeasurementRetention struct {
	MetricName string `json:"metricName"`
	Limit      int32  `json:"limit"`
}

// RolloutExperimentStep runs an Experiment.
type RolloutExperimentStep struct {
	Templates             []RolloutExperimentTemplate `json:"templates"`
	Duration              string                      `json:"duration,omitempty"`
	Analyses              []RolloutExperimentAnalysis `json:"analyses,omitempty"`
	DryRun                []DryRun                    `json:"dryRun,omitempty"`
	AnalysisRunMetadata   *PodTemplateMetadata        `json:"analysisRunMetadata,omitempty"`
	ScaleDownDelaySeconds *int32                      `json:"scaleDownDelaySeconds,omitempty"`
}

// RolloutExperimentTemplate is one ReplicaSet of an Experiment.
type RolloutExperimentTemplate struct {
	Name     string                `json:"name"`
	SpecRef  string                `json:"specRef"`
	Replicas *int32                `json:"replicas,omitempty"`
	Weight   *int32                `json:"weight,omitempty"`
	Metadata *PodTemplateMetadata  `json:"metadata,omitempty"`
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
	Service  *TemplateService      `json:"service,omitempty"`
}

// TemplateService asks for a Service in front of an experiment's ReplicaSet.
type TemplateService struct {
	Name string `json:"name,omitempty"`
}

// RolloutExperimentAnalysis is one analysis of an Experiment.
type RolloutExperimentAnalysis struct {
	Name                  string                `json:"name"`
	TemplateName          string                `json:"templateName"`
	ClusterScope          bool                  `json:"clusterScope,omitempty"`
	Args                  []AnalysisRunArgument `json:"args,omitempty"`
	RequiredForCompletion bool                  `json:"requiredForCompletion,omitempty"`
}

// RolloutTrafficRouting names the routers of a canary.
type RolloutTrafficRouting struct {
	ALB *ALBTrafficRouting `json:"alb,omitempty"`
	// The following routers are kept as they come; the controller refuses them by name until it knows them.
	//
	// +kubebuilder:pruning:PreserveUnknownFields
	Istio *runtime.RawExtension `json:"istio,omitempty"`
	// +kubebuilder:pruning:PreserveUnknownFields
	Nginx *runtime.RawExtension `json:"nginx,omitempty"`
	// +kubebuilder:pruning:PreserveUnknownFields
	SMI *runtime.RawExtension `json:"smi,omitempty"`
	// +kubebuilder:pruning:PreserveUnknownFields
	Ambassador *runtime.RawExtension `json:"ambassador,omitempty"`
	// +kubebuilder:pruning:PreserveUnknownFields
	AppMesh *runtime.RawExtension `json:"appMesh,omitempty"`
	// +kubebuilder:pruning:PreserveUnknownFields
	Traefik *runtime.RawExtension `json:"traefik,omitempty"`
	// +kubebuilder:pruning:PreserveUnknownFields
	Apisix *runtime.RawExtension `json:"apisix,omitempty"`
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=object
	// +kubebuilder:pruning:PreserveUnknownFields
	Plugins          map[string]json.RawMessage `json:"plugins,omitempty"`
	ManagedRoutes    []ManagedRoute             `json:"managedRoutes,omitempty"`
	MaxTrafficWeight *int32                     `json:"maxTrafficWeight,omitempty"`
}

// ManagedRoute is a header or mirror route that the controller owns.
type ManagedRoute struct {
	Name string `json:"name"`
}

// ALBTrafficRouting splits traffic with the actions annotation of one or several Ingresses.
type ALBTrafficRouting struct {
	Ingress   string   `json:"ingress,omitempty"`
	Ingresses []string `json:"ingresses,omitempty"`
	// ServicePort is the port of the Services in the action.
	ServicePort int32 `json:"servicePort"`
	// RootService names the action; the stable Service when empty.
	RootService string `json:"rootService,omitempty"`
	// AnnotationPrefix is alb.ingress.kubernetes.io when empty.
	AnnotationPrefix string            `json:"annotationPrefix,omitempty"`
	StickinessConfig *StickinessConfig `json:"stickinessConfig,omitempty"`
}

// StickinessConfig keeps a client on the target group that served it first.
type StickinessConfig struct {
	Enabled bool `json:"enabled"`
	// DurationSeconds is 1 to 604800.
	DurationSeconds int64 `json:"durationSeconds"`
}
