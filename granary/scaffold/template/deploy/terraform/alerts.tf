# Of the server itself. What happens in the warehouse, Granary tells (`granary guide alerts`).
resource "aws_sns_topic" "alerts" {
  name              = "${local.name}-alerts"
  kms_master_key_id = aws_kms_key.alerts.arn
}

resource "aws_sns_topic_subscription" "email" {
  for_each = toset(var.alert_emails)

  topic_arn = aws_sns_topic.alerts.arn
  protocol  = "email"
  endpoint  = each.value
}

data "aws_iam_policy_document" "alerts_key" {
  statement {
    sid       = "Owner"
    actions   = ["kms:*"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = ["arn:aws:iam::${data.aws_caller_identity.current.account_id}:root"]
    }
  }

  statement {
    sid       = "Alarms"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey*"]
    resources = ["*"]

    principals {
      type        = "Service"
      identifiers = ["cloudwatch.amazonaws.com", "events.rds.amazonaws.com"]
    }
  }
}

# A key of its own: alarms may use it, and it opens nothing else.
resource "aws_kms_key" "alerts" {
  description         = "Alerts of ${local.name}"
  enable_key_rotation = true
  policy              = data.aws_iam_policy_document.alerts_key.json
}

locals {
  alarms = {
    cpu = {
      metric = "CPUUtilization", above = true, threshold = 90, minutes = 30
      words  = "The server has been busy for half an hour"
    }
    disk = {
      metric = "FreeStorageSpace", above = false, threshold = 20 * 1024 * 1024 * 1024, minutes = 10
      words  = "Less than 20 GB of disk are free: see the runbook of a full disk"
    }
    memory = {
      metric = "FreeableMemory", above = false, threshold = 256 * 1024 * 1024, minutes = 15
      words  = "Less than 256 MB of memory are free"
    }
    connections = {
      metric = "DatabaseConnections", above = true, threshold = 150, minutes = 10
      words  = "More than 150 connections: somebody does not close them"
    }
    transactions = {
      metric = "MaximumUsedTransactionIDs", above = true, threshold = 1000000000, minutes = 60
      words  = "A transaction or a slot has kept vacuum from its work for very long"
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = local.alarms

  alarm_name          = "${local.name}-${each.key}"
  alarm_description   = each.value.words
  namespace           = "AWS/RDS"
  metric_name         = each.value.metric
  dimensions          = { DBInstanceIdentifier = aws_db_instance.warehouse.identifier }
  statistic           = each.value.above ? "Maximum" : "Minimum"
  comparison_operator = each.value.above ? "GreaterThanThreshold" : "LessThanThreshold"
  threshold           = each.value.threshold
  period              = 300
  evaluation_periods  = each.value.minutes / 5
  treat_missing_data  = "breaching"
  alarm_actions       = [aws_sns_topic.alerts.arn]
  ok_actions          = [aws_sns_topic.alerts.arn]
}

resource "aws_db_event_subscription" "warehouse" {
  name_prefix      = "${local.name}-"
  sns_topic        = aws_sns_topic.alerts.arn
  source_type      = "db-instance"
  source_ids       = [aws_db_instance.warehouse.identifier]
  event_categories = ["availability", "failover", "failure", "low storage", "maintenance", "recovery"]
}
