{{- define "sandboxq.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "sandboxq.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "sandboxq.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "sandboxq.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "sandboxq.selector" -}}
app.kubernetes.io/name: {{ include "sandboxq.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "sandboxq.labels" -}}
{{ include "sandboxq.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "sandboxq.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "sandboxq.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "sandboxq.fullname" .) .Values.serviceAccount.name }}
{{- else -}}
{{ default "default" .Values.serviceAccount.name }}
{{- end -}}
{{- end -}}

{{/* The variable with the URL of Redis, which is a Secret. */}}
{{- define "sandboxq.redis" -}}
{{- if not (or .Values.redis.existingSecret .Values.redis.url) -}}
{{- fail "say where Redis is: redis.existingSecret (with the key redis.key) or redis.url" -}}
{{- end -}}
- name: SANDBOXQ_URL
  valueFrom:
    secretKeyRef:
      name: {{ .Values.redis.existingSecret | default (include "sandboxq.fullname" .) }}
      key: {{ ternary .Values.redis.key "url" (ne .Values.redis.existingSecret "") }}
{{- end -}}

{{/* Seconds for running jobs, and above them for what is written afterwards. */}}
{{- define "sandboxq.grace" -}}
{{- $shutdown := index .Values.settings "shutdown-timeout" | default 25 | float64 | ceil | int -}}
{{- $grace := .Values.terminationGracePeriodSeconds | default (add $shutdown 20) | int -}}
{{- if lt $grace (add $shutdown 10 | int) -}}
{{- fail (printf "terminationGracePeriodSeconds %d would kill running jobs: settings.shutdown-timeout is %d, and 10 seconds more are needed" $grace $shutdown) -}}
{{- end -}}
{{ $grace }}
{{- end -}}

{{- define "sandboxq.queue" -}}
{{- if .Values.keda.queue -}}
{{ .Values.keda.queue }}
{{- else if .Values.queues -}}
{{ first .Values.queues }}
{{- else if .Values.processors -}}
{{ first .Values.processors | base | trimSuffix ".py" }}
{{- else -}}
{{- fail "keda.enabled needs keda.queue: which queue scales the pods" -}}
{{- end -}}
{{- end -}}

{{- define "sandboxq.hasExporter" -}}
{{- if or .Values.exporter.enabled (and .Values.keda.enabled (eq .Values.keda.trigger "load")) }}yes{{ end -}}
{{- end -}}
