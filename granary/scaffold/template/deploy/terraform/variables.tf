variable "environment" {
  description = "The environment of deploy/environments/ that this is for."
  type        = string

  validation {
    condition     = contains(["dev", "ci", "prod"], var.environment)
    error_message = "Choose dev, ci or prod."
  }
}

variable "region" {
  description = "Where everything is, and stays."
  type        = string
}

variable "vpc_id" {
  description = "The network of the machine that runs Granary."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets for the server, in at least two zones."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) >= 2
    error_message = "Postgres needs subnets in two zones."
  }
}

variable "client_security_group_ids" {
  description = "Security groups that may connect: of the machine, and of what people query with."
  type        = list(string)
}

variable "postgres_version" {
  description = "The server's major version; Granary works with 14 and newer."
  type        = string
  default     = "17"
}

variable "instance_class" {
  description = "The server's machine. Each large build sorts in maintenance_work_mem: 16 GB for tens of millions of rows."
  type        = string
  default     = "db.m7g.xlarge"
}

variable "storage_gb" {
  description = "Disk to begin with, and the most that it may grow to."
  type = object({
    initial = number
    maximum = number
  })
  default = {
    initial = 100
    maximum = 1000
  }
}

variable "backup_days" {
  description = "How far back point-in-time recovery reaches."
  type        = number
  default     = 14

  validation {
    condition     = var.backup_days >= 7 && var.backup_days <= 35
    error_message = "AWS keeps 35 days at most, and less than a week is too little to notice anything."
  }
}

variable "alert_emails" {
  description = "Who is told of alarms."
  type        = list(string)
}
