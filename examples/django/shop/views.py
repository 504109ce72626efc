"""Two views: order a report, look at it."""

from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_GET, require_POST

from shop.models import Report
from shop.tasks import build_report


@require_POST
def order(request: HttpRequest) -> JsonResponse:
    """Store a report and have it built, once the transaction is committed."""
    with transaction.atomic():
        report = Report.objects.create(product=request.POST["product"])
        result = build_report.enqueue(report.pk)
        report.task_id = result.id
        report.save(update_fields=["task_id"])
    return JsonResponse({"id": report.pk, "task": result.id}, status=202)


@require_GET
def show(_: HttpRequest, report_id: int) -> JsonResponse:
    """Return a report and where its task is."""
    report = get_object_or_404(Report, pk=report_id)
    status = build_report.get_result(report.task_id).status
    return JsonResponse({"cents": report.cents, "status": str(status.value)})
