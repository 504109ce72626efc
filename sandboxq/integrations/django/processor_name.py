"""How the command names the processor of children, without importing it: that sets Django up."""

PROCESSOR = "sandboxq.integrations.django.processor"
# ``manage.py sandboxq run PROCESSOR`` names the project's own processor so.
PROCESSOR_VARIABLE = "SANDBOXQ_DJANGO_PROCESSOR"
