"""A small fleet under work: photographs, invoices, reports; some jobs fail, one dies of memory."""
