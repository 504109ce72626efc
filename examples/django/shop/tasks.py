"""The tasks: plain functions, run in sandboxed children."""

import django

from shop.models import Report, Sale

if django.VERSION >= (6,):
    from django.tasks import task
else:
    from django_tasks import task  # type: ignore[no-redef]  # Django 5.2

__all__ = ["build_report", "task"]


@task(queue_name="reports")
def build_report(report_id: int) -> int:
    """Add up the sales of a product; return the sum in cents."""
    report = Report.objects.get(pk=report_id)
    cents = sum(sale.cents for sale in Sale.objects.filter(product=report.product))
    report.cents = cents
    report.save(update_fields=["cents"])
    return cents
