{{- define "imil.name" -}}
{{ contains "imil" .Release.Name | ternary .Release.Name (printf "%s-imil" .Release.Name) | trunc 35 | trimSuffix "-" }}
{{- end }}

{{- define "imil.selector" -}}
app.kubernetes.io/name: imil
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "imil.labels" -}}
{{ include "imil.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "imil.claim" -}}
{{ .Values.storage.existingClaim | default (printf "%s-data" (include "imil.name" .)) }}
{{- end }}

{{/* Of every pod. */}}
{{- define "imil.pod" -}}
automountServiceAccountToken: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
volumes:
  - name: data
    persistentVolumeClaim: {claimName: {{ include "imil.claim" . }}}
  - name: secrets
    secret:
      defaultMode: 0440
      secretName: {{ required "Set secret to the name of a Secret with label_studio_api_key and imil_basic_auth_password." .Values.secret }}
  - name: tmp
    emptyDir: {}
  - name: home
    emptyDir: {}
  - name: shared-memory
    emptyDir: {medium: Memory, sizeLimit: {{ .Values.worker.sharedMemory }}}
  {{- with .Values.datasetClaim }}
  - name: dataset
    persistentVolumeClaim: {claimName: {{ . }}, readOnly: true}
  {{- end }}
{{- end }}

{{/* Where worker pods run. */}}
{{- define "imil.nodes" -}}
{{- with .Values.worker.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.worker.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Of every container: all that it writes is in /data, or can be lost. */}}
{{- define "imil.container" -}}
image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
volumeMounts:
  - {name: data, mountPath: /data}
  - {name: secrets, mountPath: /run/secrets, readOnly: true}
  - {name: tmp, mountPath: /tmp}
  - {name: home, mountPath: /home/imil}
  - {name: shared-memory, mountPath: /dev/shm}
  {{- if .Values.datasetClaim }}
  - {name: dataset, mountPath: /dataset, readOnly: true}
  {{- end }}
env:
  - name: POD_NAME
    valueFrom: {fieldRef: {fieldPath: metadata.name}}
  - name: LABEL_STUDIO_URL
    value: {{ required "Set labelStudio.url to Label Studio's URL as pods reach it." .Values.labelStudio.url | quote }}
  - name: IMIL_PUBLIC_URL
    value: {{ .Values.publicUrl | default (printf "http://%s.%s.svc:9090" (include "imil.name" .) .Release.Namespace) | quote }}
  - name: IMIL_BASIC_AUTH_USER
    value: label-studio
  - name: IMIL_WORKER_PORT
    value: "9091"
  - name: IMIL_TRAINING_PROCESSES
    value: {{ max 1 .Values.worker.gpus | quote }}
  {{- range $name, $value := .Values.settings }}
  - name: {{ $name }}
    value: {{ $value | quote }}
  {{- end }}
{{- end }}

{{- define "imil.web" -}}
name: web
args: [serve]
{{ include "imil.container" . }}
ports:
  - {name: http, containerPort: 9090}
startupProbe:
  httpGet: {path: /health, port: http}
  periodSeconds: 5
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /health, port: http}
  periodSeconds: 15
  timeoutSeconds: 5
readinessProbe:
  httpGet: {path: /ready, port: http}
  periodSeconds: 15
  timeoutSeconds: 5
resources: {{- toYaml .Values.web.resources | nindent 2 }}
{{- end }}

{{/* With the id under which it resumes. Its heartbeat is a file that it touches every 10 seconds. */}}
{{- define "imil.worker" -}}
name: worker
args: [worker, --id, $(POD_NAME)]
{{ include "imil.container" . }}
ports:
  - {name: metrics, containerPort: 9091}
livenessProbe:
  exec:
    command: [sh, -c, 'find "/data/timestamps/worker-$POD_NAME" -mmin -1 | grep -q .']
  initialDelaySeconds: 60
  periodSeconds: 30
  timeoutSeconds: 5
resources:
  {{- $resources := deepCopy .Values.worker.resources }}
  {{- if .Values.worker.gpus }}
  {{- $gpus := dict "limits" (dict .Values.worker.gpuResource .Values.worker.gpus) }}
  {{- $resources = merge $resources $gpus }}
  {{- end }}
  {{- toYaml $resources | nindent 2 }}
{{- end }}
